Interfaces:
  eth0:
    IP: 10.2.18.13
    MAC: 52:54:00:02:12:0d
Network:
  FQDN: wh-db3.dc2.example.com
  IP: 10.2.18.13
  MAC: 52:54:00:02:12:0d
Owner: dba
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box81.dc2.example.com
  CPUs: 16
  Disk: 600GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 604e06fc-4c69-43a4-b8b7-66c118615e20
