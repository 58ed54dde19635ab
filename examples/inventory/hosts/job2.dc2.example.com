Interfaces:
  eth0:
    IP: 10.2.9.102
    MAC: 52:54:00:02:09:66
Network:
  FQDN: job2.dc2.example.com
  IP: 10.2.9.102
  MAC: 52:54:00:02:09:66
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box76.dc2.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: bbd60ee1-3728-4770-ad76-94c228ee1b3f
