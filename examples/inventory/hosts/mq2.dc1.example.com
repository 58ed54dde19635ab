Interfaces:
  eth0:
    IP: 10.1.20.12
    MAC: 52:54:00:01:14:0c
Network:
  FQDN: mq2.dc1.example.com
  IP: 10.1.20.12
  MAC: 52:54:00:01:14:0c
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: a4d17616-fbce-405d-8f36-245cdf9b6749
