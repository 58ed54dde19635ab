Interfaces:
  eth0:
    IP: 10.1.3.21
    MAC: 52:54:00:01:03:15
Network:
  FQDN: graf1.dc1.example.com
  IP: 10.1.3.21
  MAC: 52:54:00:01:03:15
  cname: grafana.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 2
  Disk: 60GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: c92373c9-46e1-4742-86f0-6273308a9365
