Interfaces:
  eth0:
    IP: 10.1.8.52
    MAC: 52:54:00:01:08:34
Network:
  FQDN: api2.dc1.example.com
  IP: 10.1.8.52
  MAC: 52:54:00:01:08:34
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: e21902ee-bc81-4d4b-a4a7-3d14475fb985
