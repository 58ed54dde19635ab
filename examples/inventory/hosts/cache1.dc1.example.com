Interfaces:
  eth0:
    IP: 10.1.10.51
    MAC: 52:54:00:01:0a:33
Network:
  FQDN: cache1.dc1.example.com
  IP: 10.1.10.51
  MAC: 52:54:00:01:0a:33
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: debian-11
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: b3bb9932-f280-47a3-80ba-0dce4b8396fc
