Interfaces:
  eth0:
    IP: 10.2.1.61
    MAC: 52:54:00:02:01:3d
Network:
  FQDN: apt1.dc2.example.com
  IP: 10.2.1.61
  MAC: 52:54:00:02:01:3d
  cname:
    - apt.dc2.example.com
    - mirror.dc2.example.com
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 2
  Disk: 600GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 0a374756-9d33-4ce3-a507-0797579cd97b
