Interfaces:
  eth0:
    IP: 10.2.17.121
    MAC: 52:54:00:02:11:79
Network:
  FQDN: wh-rpt1.dc2.example.com
  IP: 10.2.17.121
  MAC: 52:54:00:02:11:79
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: fb80eedd-d4ab-44c6-b151-fd8d5f24ce88
