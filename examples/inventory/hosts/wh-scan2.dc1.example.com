Interfaces:
  eth0:
    IP: 10.1.16.52
    MAC: 52:54:00:01:10:34
Network:
  FQDN: wh-scan2.dc1.example.com
  IP: 10.1.16.52
  MAC: 52:54:00:01:10:34
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box25.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 92f2691d-5365-4d68-bed4-4d5739dacc00
