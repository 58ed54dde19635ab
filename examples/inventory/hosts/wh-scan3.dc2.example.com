Interfaces:
  eth0:
    IP: 10.2.16.53
    MAC: 52:54:00:02:10:35
Network:
  FQDN: wh-scan3.dc2.example.com
  IP: 10.2.16.53
  MAC: 52:54:00:02:10:35
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: bba6bcc6-c475-46b5-88a1-e1e1580cbf88
