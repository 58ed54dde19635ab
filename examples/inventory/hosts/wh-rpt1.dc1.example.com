Interfaces:
  eth0:
    IP: 10.1.17.121
    MAC: 52:54:00:01:11:79
Network:
  FQDN: wh-rpt1.dc1.example.com
  IP: 10.1.17.121
  MAC: 52:54:00:01:11:79
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box25.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: c0d68380-65a3-415f-9caa-52bac4202bd4
