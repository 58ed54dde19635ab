Interfaces:
  eth0:
    IP: 10.2.18.11
    MAC: 52:54:00:02:12:0b
Network:
  FQDN: wh-db1.dc2.example.com
  IP: 10.2.18.11
  MAC: 52:54:00:02:12:0b
Owner: dba
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box73.dc2.example.com
  CPUs: 16
  Disk: 600GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: e4f1192d-f3b4-4e90-b6ce-0156d23dbce8
