Interfaces:
  eth0:
    IP: 10.1.4.12
    MAC: 52:54:00:01:04:0c
Network:
  FQDN: ops-db2.dc1.example.com
  IP: 10.1.4.12
  MAC: 52:54:00:01:04:0c
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 4
  Disk: 300GiB
  Image: debian-12-mariadb
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: e3a1c4d4-bf35-4c84-b578-714603966a01
