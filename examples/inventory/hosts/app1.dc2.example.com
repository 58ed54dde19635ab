Interfaces:
  eth0:
    IP: 10.2.9.11
    MAC: 52:54:00:02:09:0b
Network:
  FQDN: app1.dc2.example.com
  IP: 10.2.9.11
  MAC: 52:54:00:02:09:0b
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box81.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: centos-7
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 4ada1426-45a7-4030-9c43-621c85ad0c0d
