Interfaces:
  eth0:
    IP: 10.2.17.102
    MAC: 52:54:00:02:11:66
Network:
  FQDN: wh-job2.dc2.example.com
  IP: 10.2.17.102
  MAC: 52:54:00:02:11:66
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box76.dc2.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 2c2b05ce-fb5a-46de-9b11-73e4dabbf6d5
