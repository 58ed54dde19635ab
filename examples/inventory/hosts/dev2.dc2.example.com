Interfaces:
  eth0:
    IP: 10.2.25.12
    MAC: 52:54:00:02:19:0c
Network:
  FQDN: dev2.dc2.example.com
  IP: 10.2.25.12
  MAC: 52:54:00:02:19:0c
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box77.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 1334cfe2-1411-47fb-b4c4-86d83327c5a4
