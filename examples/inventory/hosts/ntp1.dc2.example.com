Interfaces:
  eth0:
    IP: 10.2.1.31
    MAC: 52:54:00:02:01:1f
Network:
  FQDN: ntp1.dc2.example.com
  IP: 10.2.1.31
  IPv6: 2001:db8:2:1::31
  MAC: 52:54:00:02:01:1f
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 1
  Disk: 20GiB
  Image: debian-11
  Memory: 2GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 2c4005ac-a3ea-482c-a8b8-460d4226f824
