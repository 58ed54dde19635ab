Interfaces:
  eth0:
    IP: 10.2.1.32
    MAC: 52:54:00:02:01:20
Network:
  FQDN: ntp2.dc2.example.com
  IP: 10.2.1.32
  IPv6: 2001:db8:2:1::32
  MAC: 52:54:00:02:01:20
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box77.dc2.example.com
  CPUs: 1
  Disk: 20GiB
  Image: debian-11
  Memory: 2GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 2d56212a-8837-4776-b4af-136efe3f33dd
