Interfaces:
  eth0:
    IP: 10.2.9.15
    MAC: 52:54:00:02:09:0f
Network:
  FQDN: app5.dc2.example.com
  IP: 10.2.9.15
  MAC: 52:54:00:02:09:0f
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box78.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: d476ac0f-445c-4699-83c3-89cedb18f033
