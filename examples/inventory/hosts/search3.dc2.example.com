Interfaces:
  eth0:
    IP: 10.2.11.13
    MAC: 52:54:00:02:0b:0d
Network:
  FQDN: search3.dc2.example.com
  IP: 10.2.11.13
  MAC: 52:54:00:02:0b:0d
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: e04c625d-3d71-4fe4-82d2-8db398fb2785
