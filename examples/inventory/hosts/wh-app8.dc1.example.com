Interfaces:
  eth0:
    IP: 10.1.17.18
    MAC: 52:54:00:01:11:12
Network:
  FQDN: wh-app8.dc1.example.com
  IP: 10.1.17.18
  MAC: 52:54:00:01:11:12
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: d178bf98-eb1f-4f41-b330-f872a8ad238e
