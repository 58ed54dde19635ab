Interfaces:
  eth0:
    IP: 10.1.1.52
    MAC: 52:54:00:01:01:34
Network:
  FQDN: puppet2.dc1.example.com
  IP: 10.1.1.52
  MAC: 52:54:00:01:01:34
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 62f41a51-6eb8-408a-b011-137ba5e91514
