Interfaces:
  eth0:
    IP: 10.2.26.11
    MAC: 52:54:00:02:1a:0b
Network:
  FQDN: lt1.dc2.example.com
  IP: 10.2.26.11
  MAC: 52:54:00:02:1a:0b
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box81.dc2.example.com
  CPUs: 8
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 715722f6-f1fa-4697-b053-dbd6ad094d4e
