Interfaces:
  eth0:
    IP: 10.2.17.122
    MAC: 52:54:00:02:11:7a
Network:
  FQDN: wh-rpt2.dc2.example.com
  IP: 10.2.17.122
  MAC: 52:54:00:02:11:7a
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: d228e417-ecf4-4aef-8c86-126199340e6c
