Interfaces:
  eth0:
    IP: 10.1.18.11
    MAC: 52:54:00:01:12:0b
Network:
  FQDN: wh-db1.dc1.example.com
  IP: 10.1.18.11
  MAC: 52:54:00:01:12:0b
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box12.dc1.example.com
  CPUs: 16
  Disk: 600GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 0dfc388a-c7a1-40ff-9a70-39441e13bdef
