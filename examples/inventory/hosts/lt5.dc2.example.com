Interfaces:
  eth0:
    IP: 10.2.26.15
    MAC: 52:54:00:02:1a:0f
Network:
  FQDN: lt5.dc2.example.com
  IP: 10.2.26.15
  MAC: 52:54:00:02:1a:0f
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box73.dc2.example.com
  CPUs: 8
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: f6752294-9673-4fd0-bf95-4d6c6de19e6f
