Interfaces:
  eth0:
    IP: 10.1.17.19
    MAC: 52:54:00:01:11:13
Network:
  FQDN: wh-app9.dc1.example.com
  IP: 10.1.17.19
  MAC: 52:54:00:01:11:13
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 3a23bc5d-ad56-4527-b5be-69457429dff2
