Interfaces:
  eth0:
    IP: 10.1.17.122
    MAC: 52:54:00:01:11:7a
Network:
  FQDN: wh-rpt2.dc1.example.com
  IP: 10.1.17.122
  MAC: 52:54:00:01:11:7a
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: eeb00bf8-f0aa-478d-a3a6-1245f5687a01
