Interfaces:
  eth0:
    IP: 10.2.9.13
    MAC: 52:54:00:02:09:0d
Network:
  FQDN: app3.dc2.example.com
  IP: 10.2.9.13
  MAC: 52:54:00:02:09:0d
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box72.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 0d3c94c1-5d5d-4843-af38-beca2ff67a5e
