Interfaces:
  eth0:
    IP: 10.2.1.71
    MAC: 52:54:00:02:01:47
Network:
  FQDN: mail1.dc2.example.com
  IP: 10.2.1.71
  IPv6: 2001:db8:2:1::71
  MAC: 52:54:00:02:01:47
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 4
  Disk: 200GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: cd49ea4d-fcb7-4e5c-8521-cc3d63809f89
