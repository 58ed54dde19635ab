Interfaces:
  eth0:
    IP: 10.1.16.14
    MAC: 52:54:00:01:10:0e
Network:
  FQDN: wh-web4.dc1.example.com
  IP: 10.1.16.14
  MAC: 52:54:00:01:10:0e
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 8ecef98c-787a-405d-9b81-f2d030cb3399
