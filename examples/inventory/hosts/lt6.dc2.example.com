Interfaces:
  eth0:
    IP: 10.2.26.16
    MAC: 52:54:00:02:1a:10
Network:
  FQDN: lt6.dc2.example.com
  IP: 10.2.26.16
  MAC: 52:54:00:02:1a:10
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box75.dc2.example.com
  CPUs: 8
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 9d1e3d64-13de-48f5-b7a7-81a7cef2af6c
