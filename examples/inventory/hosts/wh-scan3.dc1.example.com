Interfaces:
  eth0:
    IP: 10.1.16.53
    MAC: 52:54:00:01:10:35
Network:
  FQDN: wh-scan3.dc1.example.com
  IP: 10.1.16.53
  MAC: 52:54:00:01:10:35
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box20.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 46c04c48-e4e0-4d64-913e-25cb140c7d74
