Interfaces:
  eth0:
    IP: 10.1.11.15
    MAC: 52:54:00:01:0b:0f
Network:
  FQDN: search5.dc1.example.com
  IP: 10.1.11.15
  MAC: 52:54:00:01:0b:0f
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box13.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 79b42a43-4c75-43a5-90b7-ed2faa5a2939
