Interfaces:
  eth0:
    IP: 10.1.11.14
    MAC: 52:54:00:01:0b:0e
Network:
  FQDN: search4.dc1.example.com
  IP: 10.1.11.14
  MAC: 52:54:00:01:0b:0e
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: a6b2e516-c9bc-41bd-b34a-594ffaa479e1
