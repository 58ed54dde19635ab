Interfaces:
  eth0:
    IP: 10.1.9.18
    MAC: 52:54:00:01:09:12
Network:
  FQDN: app8.dc1.example.com
  IP: 10.1.9.18
  MAC: 52:54:00:01:09:12
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 7a78e07e-e5a1-452c-b7a7-10cb7d8cc34b
