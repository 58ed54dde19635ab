Interfaces:
  eth0:
    IP: 10.2.10.12
    MAC: 52:54:00:02:0a:0c
Network:
  FQDN: db2.dc2.example.com
  IP: 10.2.10.12
  MAC: 52:54:00:02:0a:0c
Owner: dba
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box76.dc2.example.com
  CPUs: 16
  Disk: 800GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 5093bb97-1f05-4dd4-b7cc-7405cec6da3d
