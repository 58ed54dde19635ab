Expires: 2031-12-31
Interfaces:
  eth0:
    IP: 10.1.129.12
    MAC: 52:54:00:01:81:0c
Network:
  FQDN: stg-wh-web2.dc1.example.com
  IP: 10.1.129.12
  MAC: 52:54:00:01:81:0c
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: f88b9f01-9b21-41de-9e55-803edded646e
