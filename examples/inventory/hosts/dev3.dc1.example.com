Interfaces:
  eth0:
    IP: 10.1.25.13
    MAC: 52:54:00:01:19:0d
Network:
  FQDN: dev3.dc1.example.com
  IP: 10.1.25.13
  MAC: 52:54:00:01:19:0d
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box20.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: ed3078ed-18ab-4b2e-b062-086fdc669019
