Interfaces:
  eth0:
    IP: 10.1.18.12
    MAC: 52:54:00:01:12:0c
Network:
  FQDN: wh-db2.dc1.example.com
  IP: 10.1.18.12
  MAC: 52:54:00:01:12:0c
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box16.dc1.example.com
  CPUs: 16
  Disk: 600GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 43dc05f2-777a-490a-a442-74ee9ef319c2
