Interfaces:
  eth0:
    IP: 10.1.129.11
    MAC: 52:54:00:01:81:0b
Network:
  FQDN: stg-wh-web1.dc1.example.com
  IP: 10.1.129.11
  MAC: 52:54:00:01:81:0b
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box13.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: 45980acd-c2a3-4dbc-9580-51440dff5a00
