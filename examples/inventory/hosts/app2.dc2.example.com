Interfaces:
  eth0:
    IP: 10.2.9.12
    MAC: 52:54:00:02:09:0c
Network:
  FQDN: app2.dc2.example.com
  IP: 10.2.9.12
  MAC: 52:54:00:02:09:0c
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box75.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: centos-7
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: a4e1073f-6c66-4889-a18f-219b476222e3
