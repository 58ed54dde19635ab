Interfaces:
  eth0:
    IP: 10.2.1.11
    MAC: 52:54:00:02:01:0b
Network:
  FQDN: ns1.dc2.example.com
  IP: 10.2.1.11
  IPv6: 2001:db8:2:1::11
  MAC: 52:54:00:02:01:0b
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 42c6fc57-dc2e-4f62-97c3-5716f85ad6f6
