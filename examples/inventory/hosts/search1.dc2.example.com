Interfaces:
  eth0:
    IP: 10.2.11.11
    MAC: 52:54:00:02:0b:0b
Network:
  FQDN: search1.dc2.example.com
  IP: 10.2.11.11
  MAC: 52:54:00:02:0b:0b
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 6735746b-77c5-4e6d-9ffc-08180232aabf
