Interfaces:
  eth0:
    IP: 10.1.1.71
    MAC: 52:54:00:01:01:47
Network:
  FQDN: mail1.dc1.example.com
  IP: 10.1.1.71
  IPv6: 2001:db8:1:1::71
  MAC: 52:54:00:01:01:47
  cname: imap.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 4
  Disk: 200GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: bb0fb878-cff5-4515-9baa-51ea87268744
