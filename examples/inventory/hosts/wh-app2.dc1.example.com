Interfaces:
  eth0:
    IP: 10.1.17.12
    MAC: 52:54:00:01:11:0c
Network:
  FQDN: wh-app2.dc1.example.com
  IP: 10.1.17.12
  MAC: 52:54:00:01:11:0c
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 942ceff5-23d9-4877-8ddd-630d5462d534
