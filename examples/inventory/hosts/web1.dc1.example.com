Interfaces:
  eth0:
    IP: 10.1.8.11
    MAC: 52:54:00:01:08:0b
Network:
  FQDN: web1.dc1.example.com
  IP: 10.1.8.11
  IPv6: 2001:db8:1:8::11
  MAC: 52:54:00:01:08:0b
  cname:
    - www.dc1.example.com
    - static.dc1.example.com
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 0acfbcca-161e-427c-8423-ef788bb47f00
