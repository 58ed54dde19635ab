Interfaces:
  eth0:
    IP: 10.1.2.14
    MAC: 52:54:00:01:02:0e
Network:
  FQDN: unbound-4.dc1.example.com
  IP: 10.1.2.14
  IPv6: 2001:db8:1:2::14
  MAC: 52:54:00:01:02:0e
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box16.dc1.example.com
  CPUs: 2
  Disk: 20GiB
  Image: unbound
  Memory: 2GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 2cc30bd4-b3d2-4f46-a8ec-713d2c9a99ae
