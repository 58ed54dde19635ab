Interfaces:
  eth0:
    IP: 10.1.17.15
    MAC: 52:54:00:01:11:0f
Network:
  FQDN: wh-app5.dc1.example.com
  IP: 10.1.17.15
  MAC: 52:54:00:01:11:0f
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box14.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: ff5e3cc2-b8bf-4f8a-83ec-92faa66a9ecc
