Interfaces:
  eth0:
    IP: 10.1.16.51
    MAC: 52:54:00:01:10:33
Network:
  FQDN: wh-scan1.dc1.example.com
  IP: 10.1.16.51
  MAC: 52:54:00:01:10:33
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 26cb32db-3033-4c5c-957e-5430d05cf34a
