Interfaces:
  eth0:
    IP: 10.2.8.53
    MAC: 52:54:00:02:08:35
Network:
  FQDN: api3.dc2.example.com
  IP: 10.2.8.53
  MAC: 52:54:00:02:08:35
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box75.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 50e6a31e-36c5-495e-9f4b-d3f6f7e9db1e
