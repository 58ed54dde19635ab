Interfaces:
  eth0:
    IP: 10.1.9.20
    MAC: 52:54:00:01:09:14
Network:
  FQDN: app10.dc1.example.com
  IP: 10.1.9.20
  MAC: 52:54:00:01:09:14
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box12.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: a0f527c9-bf01-42a1-beaf-1a54b2e9b666
