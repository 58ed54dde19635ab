Interfaces:
  eth0:
    IP: 10.2.18.12
    MAC: 52:54:00:02:12:0c
Network:
  FQDN: wh-db2.dc2.example.com
  IP: 10.2.18.12
  MAC: 52:54:00:02:12:0c
Owner: dba
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box77.dc2.example.com
  CPUs: 16
  Disk: 600GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: cc5e7fbc-5f20-4b6b-adf3-6bccaaece5c6
