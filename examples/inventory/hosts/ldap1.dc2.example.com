Interfaces:
  eth0:
    IP: 10.2.1.41
    MAC: 52:54:00:02:01:29
Network:
  FQDN: ldap1.dc2.example.com
  IP: 10.2.1.41
  MAC: 52:54:00:02:01:29
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box79.dc2.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-11
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: acb98f7d-7fbe-4c65-8f49-d48b2e931646
