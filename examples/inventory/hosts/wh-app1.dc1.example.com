Interfaces:
  eth0:
    IP: 10.1.17.11
    MAC: 52:54:00:01:11:0b
Network:
  FQDN: wh-app1.dc1.example.com
  IP: 10.1.17.11
  MAC: 52:54:00:01:11:0b
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 6280a82e-5cd1-418f-a435-66c3d810cc8f
