Interfaces:
  eth0:
    IP: 10.2.3.31
    MAC: 52:54:00:02:03:1f
Network:
  FQDN: prom1.dc2.example.com
  IP: 10.2.3.31
  MAC: 52:54:00:02:03:1f
  cname: prometheus.dc2.example.com
Owner: ops
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 8
  Disk: 600GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 4863c5ad-d364-4685-bae2-68df43d2f180
