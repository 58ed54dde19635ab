Interfaces:
  eth0:
    IP: 10.1.20.13
    MAC: 52:54:00:01:14:0d
Network:
  FQDN: mq3.dc1.example.com
  IP: 10.1.20.13
  MAC: 52:54:00:01:14:0d
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 2820c722-5d27-458b-9ddc-5f8ffd879fb0
