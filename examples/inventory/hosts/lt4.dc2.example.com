Interfaces:
  eth0:
    IP: 10.2.26.14
    MAC: 52:54:00:02:1a:0e
Network:
  FQDN: lt4.dc2.example.com
  IP: 10.2.26.14
  MAC: 52:54:00:02:1a:0e
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 8
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 9731226a-bf5c-41e5-87d2-0dd16345d3a6
