Interfaces:
  eth0:
    IP: 10.1.9.11
    MAC: 52:54:00:01:09:0b
Network:
  FQDN: app1.dc1.example.com
  IP: 10.1.9.11
  MAC: 52:54:00:01:09:0b
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: centos-7
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: da508c6b-3f39-441e-a6c4-0668f87f8d56
