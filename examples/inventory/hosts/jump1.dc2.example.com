Interfaces:
  eth0:
    IP: 10.2.1.21
    MAC: 52:54:00:02:01:15
Network:
  FQDN: jump1.dc2.example.com
  IP: 10.2.1.21
  IPv6: 2001:db8:2:1::21
  MAC: 52:54:00:02:01:15
  cname: bastion
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 9353c6f8-c221-4085-8ac8-5afa4410447f
