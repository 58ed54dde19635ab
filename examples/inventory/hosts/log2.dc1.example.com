Interfaces:
  eth0:
    IP: 10.1.3.42
    MAC: 52:54:00:01:03:2a
Network:
  FQDN: log2.dc1.example.com
  IP: 10.1.3.42
  MAC: 52:54:00:01:03:2a
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 4
  Disk: 400GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 7ad2e5e2-977c-4b7c-b464-fe5f64a19d88
