Interfaces:
  eth0:
    IP: 10.1.24.11
    MAC: 52:54:00:01:18:0b
Network:
  FQDN: ci1.dc1.example.com
  IP: 10.1.24.11
  MAC: 52:54:00:01:18:0b
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 8
  Disk: 120GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: e1d41116-734e-4b8b-89aa-43422ea6f02d
