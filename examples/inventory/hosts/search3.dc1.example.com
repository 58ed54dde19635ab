Interfaces:
  eth0:
    IP: 10.1.11.13
    MAC: 52:54:00:01:0b:0d
Network:
  FQDN: search3.dc1.example.com
  IP: 10.1.11.13
  MAC: 52:54:00:01:0b:0d
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 8ee0da95-2f5d-48b8-b8cf-a23381533fa8
