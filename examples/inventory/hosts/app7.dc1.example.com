Interfaces:
  eth0:
    IP: 10.1.9.17
    MAC: 52:54:00:01:09:11
Network:
  FQDN: app7.dc1.example.com
  IP: 10.1.9.17
  MAC: 52:54:00:01:09:11
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box24.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 397c5ee1-712a-4882-b425-78cfb7b11f72
