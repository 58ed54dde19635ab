Interfaces:
  eth0:
    IP: 10.1.8.51
    MAC: 52:54:00:01:08:33
Network:
  FQDN: api1.dc1.example.com
  IP: 10.1.8.51
  MAC: 52:54:00:01:08:33
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 25de9c6a-74f6-4f69-834f-b63c23b2b0c6
