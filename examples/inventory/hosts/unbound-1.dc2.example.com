Interfaces:
  eth0:
    IP: 10.2.2.11
    MAC: 52:54:00:02:02:0b
Network:
  FQDN: unbound-1.dc2.example.com
  IP: 10.2.2.11
  IPv6: 2001:db8:2:2::11
  MAC: 52:54:00:02:02:0b
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 8ff584cb-3689-421a-8a72-a696a91ec6f5
