Interfaces:
  eth0:
    IP: 10.2.20.32
    MAC: 52:54:00:02:14:20
Network:
  FQDN: cb2.dc2.example.com
  IP: 10.2.20.32
  MAC: 52:54:00:02:14:20
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box75.dc2.example.com
  CPUs: 8
  Disk: 400GiB
  Image: debian-12
  Memory: 64GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 3e4b64ec-62db-4ed0-84bb-17cc6188bff6
