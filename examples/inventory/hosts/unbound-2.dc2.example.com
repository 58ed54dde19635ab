Interfaces:
  eth0:
    IP: 10.2.2.12
    MAC: 52:54:00:02:02:0c
Network:
  FQDN: unbound-2.dc2.example.com
  IP: 10.2.2.12
  IPv6: 2001:db8:2:2::12
  MAC: 52:54:00:02:02:0c
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box77.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 720a6e01-713b-49d9-a52e-a927e178c433
