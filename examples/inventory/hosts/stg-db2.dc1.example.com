Interfaces:
  eth0:
    IP: 10.1.128.32
    MAC: 52:54:00:01:80:20
Network:
  FQDN: stg-db2.dc1.example.com
  IP: 10.1.128.32
  MAC: 52:54:00:01:80:20
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box24.dc1.example.com
  CPUs: 4
  Disk: 120GiB
  Image: debian-12-mariadb
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: edde6053-80b3-46d4-bfae-14b5c5447518
