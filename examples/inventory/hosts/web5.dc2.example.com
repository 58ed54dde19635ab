Interfaces:
  eth0:
    IP: 10.2.8.15
    MAC: 52:54:00:02:08:0f
Network:
  FQDN: web5.dc2.example.com
  IP: 10.2.8.15
  IPv6: 2001:db8:2:8::15
  MAC: 52:54:00:02:08:0f
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box77.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 43db818a-52d2-4cb1-97df-96a9571f99ca
