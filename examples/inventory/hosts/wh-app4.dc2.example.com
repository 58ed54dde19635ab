Interfaces:
  eth0:
    IP: 10.2.17.14
    MAC: 52:54:00:02:11:0e
Network:
  FQDN: wh-app4.dc2.example.com
  IP: 10.2.17.14
  MAC: 52:54:00:02:11:0e
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: b87e80c5-6cf1-463e-ae2f-9f8d76faaea9
