Interfaces:
  eth0:
    IP: 10.2.1.12
    MAC: 52:54:00:02:01:0c
Network:
  FQDN: ns2.dc2.example.com
  IP: 10.2.1.12
  IPv6: 2001:db8:2:1::12
  MAC: 52:54:00:02:01:0c
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 4da3b23d-2b7f-418e-8d6c-a9c4c9ebeb13
