Interfaces:
  eth0:
    IP: 10.1.2.13
    MAC: 52:54:00:01:02:0d
Network:
  FQDN: unbound-3.dc1.example.com
  IP: 10.1.2.13
  IPv6: 2001:db8:1:2::13
  MAC: 52:54:00:01:02:0d
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 3827d980-fa23-459b-b10f-cc89a7505811
