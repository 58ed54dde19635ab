Interfaces:
  eth0:
    IP: 10.1.3.32
    MAC: 52:54:00:01:03:20
Network:
  FQDN: prom2.dc1.example.com
  IP: 10.1.3.32
  MAC: 52:54:00:01:03:20
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 8
  Disk: 600GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 69194445-4cfc-4b6a-8f42-8b1ac9c8ac46
