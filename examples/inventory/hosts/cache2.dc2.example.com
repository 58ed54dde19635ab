Interfaces:
  eth0:
    IP: 10.2.10.52
    MAC: 52:54:00:02:0a:34
Network:
  FQDN: cache2.dc2.example.com
  IP: 10.2.10.52
  MAC: 52:54:00:02:0a:34
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-11
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: d8594dc1-17a8-479d-b71e-53589da4ee0d
