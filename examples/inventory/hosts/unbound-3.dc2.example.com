Interfaces:
  eth0:
    IP: 10.2.2.13
    MAC: 52:54:00:02:02:0d
Network:
  FQDN: unbound-3.dc2.example.com
  IP: 10.2.2.13
  IPv6: 2001:db8:2:2::13
  MAC: 52:54:00:02:02:0d
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 63ccba20-d188-44f4-aa29-cba1093ce4ba
