Interfaces:
  eth0:
    IP: 10.1.16.11
    MAC: 52:54:00:01:10:0b
Network:
  FQDN: wh-web1.dc1.example.com
  IP: 10.1.16.11
  MAC: 52:54:00:01:10:0b
  cname: stock.dc1.example.com
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
  UUID: 1e0f272e-89d1-4a33-b823-979e4169f408
