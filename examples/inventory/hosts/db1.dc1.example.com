Interfaces:
  eth0:
    IP: 10.1.10.11
    MAC: 52:54:00:01:0a:0b
Network:
  FQDN: db1.dc1.example.com
  IP: 10.1.10.11
  MAC: 52:54:00:01:0a:0b
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box11.dc1.example.com
  CPUs: 16
  Disk: 800GiB
  Image: debian-12-mariadb
  Memory: 96GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: ca19d49b-6d55-4bf1-96ae-7745830bd486
