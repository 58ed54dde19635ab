Interfaces:
  eth0:
    IP: 10.1.10.13
    MAC: 52:54:00:01:0a:0d
Network:
  FQDN: db3.dc1.example.com
  IP: 10.1.10.13
  MAC: 52:54:00:01:0a:0d
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box20.dc1.example.com
  CPUs: 16
  Disk: 800GiB
  Image: debian-12-mariadb
  Memory: 96GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 983c128b-d1e2-4ae8-a97f-2efe86374f8c
