Interfaces:
  eth0:
    IP: 10.2.10.51
    MAC: 52:54:00:02:0a:33
Network:
  FQDN: cache1.dc2.example.com
  IP: 10.2.10.51
  MAC: 52:54:00:02:0a:33
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box78.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-11
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 696a9672-dc83-4cfe-b097-5d5acbe679f0
