Interfaces:
  eth0:
    IP: 10.2.20.12
    MAC: 52:54:00:02:14:0c
Network:
  FQDN: mq2.dc2.example.com
  IP: 10.2.20.12
  MAC: 52:54:00:02:14:0c
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box78.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 9d365abf-2eb1-49b2-80ef-770c61155f6b
