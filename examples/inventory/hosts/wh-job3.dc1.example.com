Interfaces:
  eth0:
    IP: 10.1.17.103
    MAC: 52:54:00:01:11:67
Network:
  FQDN: wh-job3.dc1.example.com
  IP: 10.1.17.103
  MAC: 52:54:00:01:11:67
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box20.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 911463b3-5e5b-48bf-ad0e-3d4a42136515
