Interfaces:
  eth0:
    IP: 10.1.128.21
    MAC: 52:54:00:01:80:15
Network:
  FQDN: stg-app1.dc1.example.com
  IP: 10.1.128.21
  MAC: 52:54:00:01:80:15
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: dee0b60e-7936-4c01-a09f-17607bd62f65
