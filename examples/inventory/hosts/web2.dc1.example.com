Interfaces:
  eth0:
    IP: 10.1.8.12
    MAC: 52:54:00:01:08:0c
Network:
  FQDN: web2.dc1.example.com
  IP: 10.1.8.12
  IPv6: 2001:db8:1:8::12
  MAC: 52:54:00:01:08:0c
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box24.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 92b57a22-7e04-4a33-81ff-d9e048a65b68
