Interfaces:
  eth0:
    IP: 10.1.1.61
    MAC: 52:54:00:01:01:3d
Network:
  FQDN: apt1.dc1.example.com
  IP: 10.1.1.61
  MAC: 52:54:00:01:01:3d
  cname:
    - apt.dc1.example.com
    - mirror.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 2
  Disk: 900GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 9a316303-798f-42e0-ba92-088c00e4b855
