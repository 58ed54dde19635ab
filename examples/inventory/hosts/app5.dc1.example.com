Interfaces:
  eth0:
    IP: 10.1.9.15
    MAC: 52:54:00:01:09:0f
Network:
  FQDN: app5.dc1.example.com
  IP: 10.1.9.15
  MAC: 52:54:00:01:09:0f
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box14.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: b238619d-1762-4ae1-8897-aa7f12276fe8
