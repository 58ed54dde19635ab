Interfaces:
  eth0:
    IP: 10.1.24.13
    MAC: 52:54:00:01:18:0d
Network:
  FQDN: ci3.dc1.example.com
  IP: 10.1.24.13
  MAC: 52:54:00:01:18:0d
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box20.dc1.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 0e04add0-fd2c-422b-936d-7a63c4307171
