Interfaces:
  eth0:
    IP: 10.2.24.12
    MAC: 52:54:00:02:18:0c
Network:
  FQDN: ci2.dc2.example.com
  IP: 10.2.24.12
  MAC: 52:54:00:02:18:0c
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box78.dc2.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 9e6df67b-aa21-4615-bc01-13a03d9aa264
