Interfaces:
  eth0:
    IP: 10.2.16.11
    MAC: 52:54:00:02:10:0b
Network:
  FQDN: wh-web1.dc2.example.com
  IP: 10.2.16.11
  MAC: 52:54:00:02:10:0b
  cname: stock.dc2.example.com
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
  UUID: 1bf33c40-4ab6-4a9d-8125-715ff48fe789
