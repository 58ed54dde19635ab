Interfaces:
  eth0:
    IP: 10.1.1.31
    MAC: 52:54:00:01:01:1f
Network:
  FQDN: ntp1.dc1.example.com
  IP: 10.1.1.31
  IPv6: 2001:db8:1:1::31
  MAC: 52:54:00:01:01:1f
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 1
  Disk: 20GiB
  Image: debian-11
  Memory: 2GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 777f0909-c705-4fc1-ac6c-c0fb4adf715a
