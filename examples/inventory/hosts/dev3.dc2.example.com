Interfaces:
  eth0:
    IP: 10.2.25.13
    MAC: 52:54:00:02:19:0d
Network:
  FQDN: dev3.dc2.example.com
  IP: 10.2.25.13
  MAC: 52:54:00:02:19:0d
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: b57799a9-37b3-40d2-bd06-ebbce3d44b96
