Interfaces:
  eth0:
    IP: 10.1.9.14
    MAC: 52:54:00:01:09:0e
Network:
  FQDN: app4.dc1.example.com
  IP: 10.1.9.14
  MAC: 52:54:00:01:09:0e
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 4993c3f3-8956-49d0-86d0-246c1abed504
