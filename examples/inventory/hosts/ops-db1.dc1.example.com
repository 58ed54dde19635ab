Interfaces:
  eth0:
    IP: 10.1.4.11
    MAC: 52:54:00:01:04:0b
Network:
  FQDN: ops-db1.dc1.example.com
  IP: 10.1.4.11
  MAC: 52:54:00:01:04:0b
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box14.dc1.example.com
  CPUs: 4
  Disk: 300GiB
  Image: debian-12-mariadb
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: e449ab00-6e16-4ad1-89f4-a1c7aa9c2cec
