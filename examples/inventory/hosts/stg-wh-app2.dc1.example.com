Expires: 2031-12-31
Interfaces:
  eth0:
    IP: 10.1.129.22
    MAC: 52:54:00:01:81:16
Network:
  FQDN: stg-wh-app2.dc1.example.com
  IP: 10.1.129.22
  MAC: 52:54:00:01:81:16
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: f59107d0-9ee2-4082-84c9-ca9d375461df
