Interfaces:
  eth0:
    IP: 10.2.17.101
    MAC: 52:54:00:02:11:65
Network:
  FQDN: wh-job1.dc2.example.com
  IP: 10.2.17.101
  MAC: 52:54:00:02:11:65
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box81.dc2.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 125984c2-e107-462d-9821-af189c968403
