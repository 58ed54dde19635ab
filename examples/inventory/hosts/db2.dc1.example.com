Interfaces:
  eth0:
    IP: 10.1.10.12
    MAC: 52:54:00:01:0a:0c
Network:
  FQDN: db2.dc1.example.com
  IP: 10.1.10.12
  MAC: 52:54:00:01:0a:0c
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box15.dc1.example.com
  CPUs: 16
  Disk: 800GiB
  Image: debian-12-mariadb
  Memory: 96GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 3d62e93d-129e-4e5c-943a-0d6090444be1
