Interfaces:
  eth0:
    IP: 10.2.8.12
    MAC: 52:54:00:02:08:0c
Network:
  FQDN: web2.dc2.example.com
  IP: 10.2.8.12
  IPv6: 2001:db8:2:8::12
  MAC: 52:54:00:02:08:0c
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 80db43e3-951e-4b14-bffa-425c6fa89c34
