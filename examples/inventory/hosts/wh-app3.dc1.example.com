Interfaces:
  eth0:
    IP: 10.1.17.13
    MAC: 52:54:00:01:11:0d
Network:
  FQDN: wh-app3.dc1.example.com
  IP: 10.1.17.13
  MAC: 52:54:00:01:11:0d
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 05a7fff8-9e44-4715-86b4-b25569589fd1
