Interfaces:
  eth0:
    IP: 10.2.16.51
    MAC: 52:54:00:02:10:33
Network:
  FQDN: wh-scan1.dc2.example.com
  IP: 10.2.16.51
  MAC: 52:54:00:02:10:33
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 4f34aaa4-9a13-409a-a059-36229b578d38
