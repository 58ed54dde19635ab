Interfaces:
  eth0:
    IP: 10.1.1.21
    MAC: 52:54:00:01:01:15
Network:
  FQDN: jump1.dc1.example.com
  IP: 10.1.1.21
  IPv6: 2001:db8:1:1::21
  MAC: 52:54:00:01:01:15
  cname: ssh.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: bd9fa9c5-7be5-4f8a-a480-a35caecf43d7
