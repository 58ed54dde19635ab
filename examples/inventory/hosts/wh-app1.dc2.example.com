Interfaces:
  eth0:
    IP: 10.2.17.11
    MAC: 52:54:00:02:11:0b
Network:
  FQDN: wh-app1.dc2.example.com
  IP: 10.2.17.11
  MAC: 52:54:00:02:11:0b
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: b245d157-4da0-4d8d-a392-771d908e7579
