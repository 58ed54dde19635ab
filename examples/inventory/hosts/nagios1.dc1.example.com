Interfaces:
  eth0:
    IP: 10.1.3.11
    MAC: 52:54:00:01:03:0b
Network:
  FQDN: nagios1.dc1.example.com
  IP: 10.1.3.11
  MAC: 52:54:00:01:03:0b
  cname:
    - monitoring.dc1.example.com
    - nagios.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box30.dc1.example.com
  CPUs: 4
  Disk: 120GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 050c13f6-94dd-42f9-925f-fa8d25ed8767
