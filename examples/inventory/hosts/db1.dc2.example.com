Interfaces:
  eth0:
    IP: 10.2.10.11
    MAC: 52:54:00:02:0a:0b
Network:
  FQDN: db1.dc2.example.com
  IP: 10.2.10.11
  MAC: 52:54:00:02:0a:0b
Owner: dba
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box72.dc2.example.com
  CPUs: 16
  Disk: 800GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: edb02a14-223b-4063-be26-3129f51c98bb
