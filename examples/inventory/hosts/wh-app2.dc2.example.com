Interfaces:
  eth0:
    IP: 10.2.17.12
    MAC: 52:54:00:02:11:0c
Network:
  FQDN: wh-app2.dc2.example.com
  IP: 10.2.17.12
  MAC: 52:54:00:02:11:0c
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box77.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 97839368-1c05-4c16-85d7-bbe975ac3aeb
