Interfaces:
  eth0:
    IP: 10.1.11.11
    MAC: 52:54:00:01:0b:0b
Network:
  FQDN: search1.dc1.example.com
  IP: 10.1.11.11
  MAC: 52:54:00:01:0b:0b
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box24.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 725230bf-1f2e-43a8-89b8-3a32c738129f
