Interfaces:
  eth0:
    IP: 10.2.24.13
    MAC: 52:54:00:02:18:0d
Network:
  FQDN: ci3.dc2.example.com
  IP: 10.2.24.13
  MAC: 52:54:00:02:18:0d
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box73.dc2.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: f6a4caad-1374-4fed-a06c-85e771cea8ef
