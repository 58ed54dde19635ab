Interfaces:
  eth0:
    IP: 10.2.24.11
    MAC: 52:54:00:02:18:0b
Network:
  FQDN: ci1.dc2.example.com
  IP: 10.2.24.11
  MAC: 52:54:00:02:18:0b
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: bd0b54f5-f31f-4469-ba42-b31a0e4bba9b
