Interfaces:
  eth0:
    IP: 10.1.16.12
    MAC: 52:54:00:01:10:0c
Network:
  FQDN: wh-web2.dc1.example.com
  IP: 10.1.16.12
  MAC: 52:54:00:01:10:0c
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 210688f8-c40a-48ae-9701-b89ef5f9cdd6
