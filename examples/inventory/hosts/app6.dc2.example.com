Interfaces:
  eth0:
    IP: 10.2.9.16
    MAC: 52:54:00:02:09:10
Network:
  FQDN: app6.dc2.example.com
  IP: 10.2.9.16
  MAC: 52:54:00:02:09:10
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box73.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 9d2cd214-a585-4a14-8ae7-d8ec0373b5b9
