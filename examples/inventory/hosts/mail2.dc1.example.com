Interfaces:
  eth0:
    IP: 10.1.1.72
    MAC: 52:54:00:01:01:48
Network:
  FQDN: mail2.dc1.example.com
  IP: 10.1.1.72
  IPv6: 2001:db8:1:1::72
  MAC: 52:54:00:01:01:48
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 4
  Disk: 200GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 543669a6-ed5a-4574-9aa9-32e59b96eadd
