Interfaces:
  eth0:
    IP: 10.1.128.31
    MAC: 52:54:00:01:80:1f
Network:
  FQDN: stg-db1.dc1.example.com
  IP: 10.1.128.31
  MAC: 52:54:00:01:80:1f
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 4
  Disk: 120GiB
  Image: debian-12-mariadb
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: f3996e20-2f75-454c-8fd6-c47a7b5d1e1a
