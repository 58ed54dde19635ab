Interfaces:
  eth0:
    IP: 10.1.1.42
    MAC: 52:54:00:01:01:2a
Network:
  FQDN: ldap2.dc1.example.com
  IP: 10.1.1.42
  MAC: 52:54:00:01:01:2a
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-11
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 32ef154b-ef35-4fb1-9e2f-0b1e14b728e5
