Interfaces:
  eth0:
    IP: 10.1.1.11
    MAC: 52:54:00:01:01:0b
Network:
  FQDN: ns1.dc1.example.com
  IP: 10.1.1.11
  IPv6: 2001:db8:1:1::11
  MAC: 52:54:00:01:01:0b
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 5c8fc200-dc09-431d-a654-46c61b0c4115
