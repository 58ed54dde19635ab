Interfaces:
  eth0:
    IP: 10.1.128.12
    MAC: 52:54:00:01:80:0c
Network:
  FQDN: stg-web2.dc1.example.com
  IP: 10.1.128.12
  MAC: 52:54:00:01:80:0c
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: 80427e05-b078-4b5a-b6ff-b484283bfa6f
