Interfaces:
  eth0:
    IP: 10.1.25.16
    MAC: 52:54:00:01:19:10
Network:
  FQDN: dev6.dc1.example.com
  IP: 10.1.25.16
  MAC: 52:54:00:01:19:10
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 400ba272-fd90-47f6-95c6-5b4c54d54501
