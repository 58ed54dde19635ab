Interfaces:
  eth0:
    IP: 10.1.9.101
    MAC: 52:54:00:01:09:65
Network:
  FQDN: job1.dc1.example.com
  IP: 10.1.9.101
  MAC: 52:54:00:01:09:65
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 73b75cee-91a1-454c-9f4d-73d552496a65
