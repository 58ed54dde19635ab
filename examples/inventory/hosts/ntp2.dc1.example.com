Interfaces:
  eth0:
    IP: 10.1.1.32
    MAC: 52:54:00:01:01:20
Network:
  FQDN: ntp2.dc1.example.com
  IP: 10.1.1.32
  IPv6: 2001:db8:1:1::32
  MAC: 52:54:00:01:01:20
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 1
  Disk: 20GiB
  Image: debian-11
  Memory: 2GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: d1d9c04f-ae92-478d-8ecd-b8f9cf748973
