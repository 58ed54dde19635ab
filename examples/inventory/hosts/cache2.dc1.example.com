Interfaces:
  eth0:
    IP: 10.1.10.52
    MAC: 52:54:00:01:0a:34
Network:
  FQDN: cache2.dc1.example.com
  IP: 10.1.10.52
  MAC: 52:54:00:01:0a:34
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-11
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 55ea7616-bc52-4f99-a13b-1cd941df8e20
