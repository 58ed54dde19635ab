Interfaces:
  eth0:
    IP: 10.2.20.11
    MAC: 52:54:00:02:14:0b
Network:
  FQDN: mq1.dc2.example.com
  IP: 10.2.20.11
  MAC: 52:54:00:02:14:0b
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 23d07fba-68c3-4a23-81c9-a58f6c7ac243
