Interfaces:
  eth0:
    IP: 10.2.3.42
    MAC: 52:54:00:02:03:2a
Network:
  FQDN: log2.dc2.example.com
  IP: 10.2.3.42
  MAC: 52:54:00:02:03:2a
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box75.dc2.example.com
  CPUs: 4
  Disk: 400GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 10932586-1161-4c27-b676-c56a17589508
