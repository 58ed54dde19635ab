Interfaces:
  eth0:
    IP: 10.1.9.19
    MAC: 52:54:00:01:09:13
Network:
  FQDN: app9.dc1.example.com
  IP: 10.1.9.19
  MAC: 52:54:00:01:09:13
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box20.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: f543b544-f98e-4d48-9567-aedcb2a438bd
