Interfaces:
  eth0:
    IP: 10.1.20.11
    MAC: 52:54:00:01:14:0b
Network:
  FQDN: mq1.dc1.example.com
  IP: 10.1.20.11
  MAC: 52:54:00:01:14:0b
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 4
  Disk: 80GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 2fdf0686-bb4a-4cd6-9747-b29f47db1de1
