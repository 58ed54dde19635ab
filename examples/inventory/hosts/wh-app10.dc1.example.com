Interfaces:
  eth0:
    IP: 10.1.17.20
    MAC: 52:54:00:01:11:14
Network:
  FQDN: wh-app10.dc1.example.com
  IP: 10.1.17.20
  MAC: 52:54:00:01:11:14
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box13.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 5129d6dd-ea86-449f-80e2-9b0fc2f73ba6
