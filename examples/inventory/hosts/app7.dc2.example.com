Interfaces:
  eth0:
    IP: 10.2.9.17
    MAC: 52:54:00:02:09:11
Network:
  FQDN: app7.dc2.example.com
  IP: 10.2.9.17
  MAC: 52:54:00:02:09:11
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 4c058c2f-3b52-4e27-9cf1-1ec760f98166
