Interfaces:
  eth0:
    IP: 10.2.8.11
    MAC: 52:54:00:02:08:0b
Network:
  FQDN: web1.dc2.example.com
  IP: 10.2.8.11
  IPv6: 2001:db8:2:8::11
  MAC: 52:54:00:02:08:0b
  cname:
    - www.dc2.example.com
    - static.dc2.example.com
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 1d6cf5c0-bfaf-4891-989d-8d2aade995d0
