Interfaces:
  eth0:
    IP: 10.1.18.13
    MAC: 52:54:00:01:12:0d
Network:
  FQDN: wh-db3.dc1.example.com
  IP: 10.1.18.13
  MAC: 52:54:00:01:12:0d
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 16
  Disk: 600GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 19be9a52-a30b-41f0-8278-3421616af798
