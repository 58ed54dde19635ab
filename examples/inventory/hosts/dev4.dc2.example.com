Interfaces:
  eth0:
    IP: 10.2.25.14
    MAC: 52:54:00:02:19:0e
Network:
  FQDN: dev4.dc2.example.com
  IP: 10.2.25.14
  MAC: 52:54:00:02:19:0e
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: bc30f6ec-c51c-4357-bce6-2bc3f10121cc
