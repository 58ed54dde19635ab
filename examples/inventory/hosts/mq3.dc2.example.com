Interfaces:
  eth0:
    IP: 10.2.20.13
    MAC: 52:54:00:02:14:0d
Network:
  FQDN: mq3.dc2.example.com
  IP: 10.2.20.13
  MAC: 52:54:00:02:14:0d
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: a79d0dd4-d450-4aea-8467-5e30cc885ac5
