Interfaces:
  eth0:
    IP: 10.1.9.122
    MAC: 52:54:00:01:09:7a
Network:
  FQDN: notify2.dc1.example.com
  IP: 10.1.9.122
  MAC: 52:54:00:01:09:7a
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-11
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: aeaee7dc-f157-4519-9d0a-53146b5f424d
