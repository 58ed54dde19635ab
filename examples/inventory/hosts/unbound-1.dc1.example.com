Interfaces:
  eth0:
    IP: 10.1.2.11
    MAC: 52:54:00:01:02:0b
Network:
  FQDN: unbound-1.dc1.example.com
  IP: 10.1.2.11
  IPv6: 2001:db8:1:2::11
  MAC: 52:54:00:01:02:0b
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: efdbf949-fa14-47ca-b794-382511abe671
