Interfaces:
  eth0:
    IP: 10.2.26.13
    MAC: 52:54:00:02:1a:0d
Network:
  FQDN: lt3.dc2.example.com
  IP: 10.2.26.13
  MAC: 52:54:00:02:1a:0d
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box72.dc2.example.com
  CPUs: 8
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 5d98d35c-5d13-4700-9e6c-836eded5c73c
