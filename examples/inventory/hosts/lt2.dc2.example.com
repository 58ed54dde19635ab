Interfaces:
  eth0:
    IP: 10.2.26.12
    MAC: 52:54:00:02:1a:0c
Network:
  FQDN: lt2.dc2.example.com
  IP: 10.2.26.12
  MAC: 52:54:00:02:1a:0c
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box78.dc2.example.com
  CPUs: 8
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 035259c1-3e75-444f-9d2d-3558e3628a23
