Interfaces:
  eth0:
    IP: 10.1.17.102
    MAC: 52:54:00:01:11:66
Network:
  FQDN: wh-job2.dc1.example.com
  IP: 10.1.17.102
  MAC: 52:54:00:01:11:66
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box24.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: f35ee842-19f0-4553-9bc1-06b965ded06c
