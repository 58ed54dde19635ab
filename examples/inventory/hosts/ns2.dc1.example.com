Interfaces:
  eth0:
    IP: 10.1.1.12
    MAC: 52:54:00:01:01:0c
Network:
  FQDN: ns2.dc1.example.com
  IP: 10.1.1.12
  IPv6: 2001:db8:1:1::12
  MAC: 52:54:00:01:01:0c
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box25.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 960673bb-d9ab-4ded-8923-3ec39852acff
