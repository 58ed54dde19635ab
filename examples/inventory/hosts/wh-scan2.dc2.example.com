Interfaces:
  eth0:
    IP: 10.2.16.52
    MAC: 52:54:00:02:10:34
Network:
  FQDN: wh-scan2.dc2.example.com
  IP: 10.2.16.52
  MAC: 52:54:00:02:10:34
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box76.dc2.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: b1fe5388-7370-42ee-9b02-cf736824e4cb
