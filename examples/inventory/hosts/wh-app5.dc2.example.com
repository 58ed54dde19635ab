Interfaces:
  eth0:
    IP: 10.2.17.15
    MAC: 52:54:00:02:11:0f
Network:
  FQDN: wh-app5.dc2.example.com
  IP: 10.2.17.15
  MAC: 52:54:00:02:11:0f
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box75.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: ed9d5ea1-18ae-454a-8c1e-3758dfcf9b7a
