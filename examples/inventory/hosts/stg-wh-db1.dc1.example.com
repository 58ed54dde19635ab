Interfaces:
  eth0:
    IP: 10.1.129.31
    MAC: 52:54:00:01:81:1f
Network:
  FQDN: stg-wh-db1.dc1.example.com
  IP: 10.1.129.31
  MAC: 52:54:00:01:81:1f
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 4
  Disk: 120GiB
  Image: debian-12-mariadb
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: a15ccc3d-a29e-45eb-8aca-f5a3284a5905
