Interfaces:
  eth0:
    IP: 10.1.11.12
    MAC: 52:54:00:01:0b:0c
Network:
  FQDN: search2.dc1.example.com
  IP: 10.1.11.12
  MAC: 52:54:00:01:0b:0c
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 74bbfa3d-4bf9-4833-b10f-7d8f33f9e3d1
