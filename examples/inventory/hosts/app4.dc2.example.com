Interfaces:
  eth0:
    IP: 10.2.9.14
    MAC: 52:54:00:02:09:0e
Network:
  FQDN: app4.dc2.example.com
  IP: 10.2.9.14
  MAC: 52:54:00:02:09:0e
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: a461c6f1-3f55-4c83-ac39-74a7fd6355fb
