Interfaces:
  eth0:
    IP: 10.2.17.16
    MAC: 52:54:00:02:11:10
Network:
  FQDN: wh-app6.dc2.example.com
  IP: 10.2.17.16
  MAC: 52:54:00:02:11:10
Owner: warehouse
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box72.dc2.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 8ce2f4ed-b3de-4cc8-ad0b-352b98b07428
