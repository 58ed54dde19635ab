Interfaces:
  eth0:
    IP: 10.1.9.22
    MAC: 52:54:00:01:09:16
Network:
  FQDN: app12.dc1.example.com
  IP: 10.1.9.22
  MAC: 52:54:00:01:09:16
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box25.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: f9d97e68-f371-46b3-aaea-c9e7dc345fba
