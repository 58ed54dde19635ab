Interfaces:
  eth0:
    IP: 10.2.20.33
    MAC: 52:54:00:02:14:21
Network:
  FQDN: cb3.dc2.example.com
  IP: 10.2.20.33
  MAC: 52:54:00:02:14:21
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 8
  Disk: 400GiB
  Image: debian-12
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 031b0347-b271-4a50-b649-7ad4cc8d04ce
