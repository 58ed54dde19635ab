Interfaces:
  eth0:
    IP: 10.1.25.12
    MAC: 52:54:00:01:19:0c
Network:
  FQDN: dev2.dc1.example.com
  IP: 10.1.25.12
  MAC: 52:54:00:01:19:0c
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box24.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 1c92614d-a314-45e3-8bf1-969d35629fd1
