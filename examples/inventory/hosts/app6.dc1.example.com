Interfaces:
  eth0:
    IP: 10.1.9.16
    MAC: 52:54:00:01:09:10
Network:
  FQDN: app6.dc1.example.com
  IP: 10.1.9.16
  MAC: 52:54:00:01:09:10
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 2c74fb55-2ebd-4157-80b9-fb77ab38f9d5
