Interfaces:
  eth0:
    IP: 10.1.17.14
    MAC: 52:54:00:01:11:0e
Network:
  FQDN: wh-app4.dc1.example.com
  IP: 10.1.17.14
  MAC: 52:54:00:01:11:0e
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: eafcedac-2d03-4dc6-8297-8196f4eab9a8
