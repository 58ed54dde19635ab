Interfaces:
  eth0:
    IP: 10.2.3.41
    MAC: 52:54:00:02:03:29
Network:
  FQDN: log1.dc2.example.com
  IP: 10.2.3.41
  MAC: 52:54:00:02:03:29
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 4
  Disk: 400GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 31342dc1-38c9-4102-b4c2-c485aa6ba455
