Interfaces:
  eth0:
    IP: 10.1.24.14
    MAC: 52:54:00:01:18:0e
Network:
  FQDN: ci4.dc1.example.com
  IP: 10.1.24.14
  MAC: 52:54:00:01:18:0e
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box14.dc1.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 9eba82d6-66a8-4a62-9e4f-aab85be4f7c8
