Interfaces:
  eth0:
    IP: 10.2.8.54
    MAC: 52:54:00:02:08:36
Network:
  FQDN: api4.dc2.example.com
  IP: 10.2.8.54
  MAC: 52:54:00:02:08:36
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box81.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 78d867c7-3fa8-4fb0-bc7a-f7f40a0188e0
