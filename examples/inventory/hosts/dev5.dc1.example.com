Interfaces:
  eth0:
    IP: 10.1.25.15
    MAC: 52:54:00:01:19:0f
Network:
  FQDN: dev5.dc1.example.com
  IP: 10.1.25.15
  MAC: 52:54:00:01:19:0f
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box14.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: eb26f578-0c67-4831-92a9-b6947be38d28
