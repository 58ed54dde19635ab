Interfaces:
  eth0:
    IP: 10.1.3.43
    MAC: 52:54:00:01:03:2b
Network:
  FQDN: log3.dc1.example.com
  IP: 10.1.3.43
  MAC: 52:54:00:01:03:2b
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 4
  Disk: 400GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: b121ab97-c4ea-4ddf-a914-7942dbcda878
