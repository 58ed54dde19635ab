Interfaces:
  eth0:
    IP: 10.2.20.31
    MAC: 52:54:00:02:14:1f
Network:
  FQDN: cb1.dc2.example.com
  IP: 10.2.20.31
  MAC: 52:54:00:02:14:1f
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 8
  Disk: 400GiB
  Image: debian-12
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 3a577865-b5a4-47ad-950f-1509175b0ed1
