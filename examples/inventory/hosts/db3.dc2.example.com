Interfaces:
  eth0:
    IP: 10.2.10.13
    MAC: 52:54:00:02:0a:0d
Network:
  FQDN: db3.dc2.example.com
  IP: 10.2.10.13
  MAC: 52:54:00:02:0a:0d
Owner: dba
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 16
  Disk: 800GiB
  Image: debian-12-mariadb
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 69ff9acb-24b3-4d99-911e-a57745637c53
