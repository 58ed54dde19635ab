Interfaces:
  eth0:
    IP: 10.1.25.11
    MAC: 52:54:00:01:19:0b
Network:
  FQDN: dev1.dc1.example.com
  IP: 10.1.25.11
  MAC: 52:54:00:01:19:0b
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: f384a8b1-4bf2-4d31-b597-05757dc78a63
