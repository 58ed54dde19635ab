Interfaces:
  eth0:
    IP: 10.1.25.14
    MAC: 52:54:00:01:19:0e
Network:
  FQDN: dev4.dc1.example.com
  IP: 10.1.25.14
  MAC: 52:54:00:01:19:0e
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box16.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: f7164eac-4582-44ef-b587-d9faff360366
