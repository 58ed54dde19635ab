Interfaces:
  eth0:
    IP: 10.1.17.17
    MAC: 52:54:00:01:11:11
Network:
  FQDN: wh-app7.dc1.example.com
  IP: 10.1.17.17
  MAC: 52:54:00:01:11:11
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: dcc7b3d5-016f-4d6c-8cb3-6ca198142a88
