Interfaces:
  eth0:
    IP: 10.2.9.18
    MAC: 52:54:00:02:09:12
Network:
  FQDN: app8.dc2.example.com
  IP: 10.2.9.18
  MAC: 52:54:00:02:09:12
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 36987f8e-03c4-42aa-bfc7-f7d770857074
