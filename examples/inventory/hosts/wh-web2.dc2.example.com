Interfaces:
  eth0:
    IP: 10.2.16.12
    MAC: 52:54:00:02:10:0c
Network:
  FQDN: wh-web2.dc2.example.com
  IP: 10.2.16.12
  MAC: 52:54:00:02:10:0c
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box76.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 8f84d07b-ba91-4f13-af47-405f75435741
