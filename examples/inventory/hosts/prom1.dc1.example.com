Interfaces:
  eth0:
    IP: 10.1.3.31
    MAC: 52:54:00:01:03:1f
Network:
  FQDN: prom1.dc1.example.com
  IP: 10.1.3.31
  MAC: 52:54:00:01:03:1f
  cname: prometheus.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box13.dc1.example.com
  CPUs: 8
  Disk: 600GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 96a27d4c-0b91-488b-9728-bc0b4f2d6ab4
