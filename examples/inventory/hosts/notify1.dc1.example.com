Interfaces:
  eth0:
    IP: 10.1.9.121
    MAC: 52:54:00:01:09:79
Network:
  FQDN: notify1.dc1.example.com
  IP: 10.1.9.121
  MAC: 52:54:00:01:09:79
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-11
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: a33ad695-e4ea-4d40-b0ed-9e5e369eaff8
