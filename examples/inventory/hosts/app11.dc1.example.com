Interfaces:
  eth0:
    IP: 10.1.9.21
    MAC: 52:54:00:01:09:15
Network:
  FQDN: app11.dc1.example.com
  IP: 10.1.9.21
  MAC: 52:54:00:01:09:15
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 0c4e179c-41ee-4b59-b6ae-0ee701831203
