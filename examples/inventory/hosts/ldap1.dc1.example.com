Interfaces:
  eth0:
    IP: 10.1.1.41
    MAC: 52:54:00:01:01:29
Network:
  FQDN: ldap1.dc1.example.com
  IP: 10.1.1.41
  MAC: 52:54:00:01:01:29
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-11
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: e6485128-af77-4429-8343-454c605e35f9
