Interfaces:
  eth0:
    IP: 10.1.2.12
    MAC: 52:54:00:01:02:0c
Network:
  FQDN: unbound-2.dc1.example.com
  IP: 10.1.2.12
  IPv6: 2001:db8:1:2::12
  MAC: 52:54:00:01:02:0c
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: f47b91c3-50fc-4855-a8a9-434319f2fa19
