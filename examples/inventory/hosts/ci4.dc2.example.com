Interfaces:
  eth0:
    IP: 10.2.24.14
    MAC: 52:54:00:02:18:0e
Network:
  FQDN: ci4.dc2.example.com
  IP: 10.2.24.14
  MAC: 52:54:00:02:18:0e
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box81.dc2.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 9a7d2df5-35b2-4836-b5a6-8beea2ba1dd2
