Interfaces:
  eth0:
    IP: 10.1.9.103
    MAC: 52:54:00:01:09:67
Network:
  FQDN: job3.dc1.example.com
  IP: 10.1.9.103
  MAC: 52:54:00:01:09:67
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 64d0fa9f-3d2f-4af9-9d62-5ae0196018e4
