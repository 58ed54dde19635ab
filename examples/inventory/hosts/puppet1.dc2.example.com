Interfaces:
  eth0:
    IP: 10.2.1.51
    MAC: 52:54:00:02:01:33
Network:
  FQDN: puppet1.dc2.example.com
  IP: 10.2.1.51
  MAC: 52:54:00:02:01:33
  cname: puppet.dc2.example.com
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 0bf3fbe8-1956-41c4-ae10-88cb2c7d776c
