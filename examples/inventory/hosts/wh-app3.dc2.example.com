Interfaces:
  eth0:
    IP: 10.2.17.13
    MAC: 52:54:00:02:11:0d
Network:
  FQDN: wh-app3.dc2.example.com
  IP: 10.2.17.13
  MAC: 52:54:00:02:11:0d
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 5b2850b1-2c15-4f16-bca9-c5378db1d06e
