Interfaces:
  eth0:
    IP: 10.1.24.12
    MAC: 52:54:00:01:18:0c
Network:
  FQDN: ci2.dc1.example.com
  IP: 10.1.24.12
  MAC: 52:54:00:01:18:0c
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box25.dc1.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 1bb60c2d-9af1-4793-8d46-4ac2c306cbf3
