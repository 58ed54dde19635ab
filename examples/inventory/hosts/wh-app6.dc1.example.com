Interfaces:
  eth0:
    IP: 10.1.17.16
    MAC: 52:54:00:01:11:10
Network:
  FQDN: wh-app6.dc1.example.com
  IP: 10.1.17.16
  MAC: 52:54:00:01:11:10
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 8e291189-cea3-462f-8ac1-4499905879d5
