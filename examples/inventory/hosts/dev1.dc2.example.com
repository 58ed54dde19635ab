Interfaces:
  eth0:
    IP: 10.2.25.11
    MAC: 52:54:00:02:19:0b
Network:
  FQDN: dev1.dc2.example.com
  IP: 10.2.25.11
  MAC: 52:54:00:02:19:0b
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 954afc55-deba-4465-889f-6f18f031dc36
