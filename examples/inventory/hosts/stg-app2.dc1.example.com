Interfaces:
  eth0:
    IP: 10.1.128.22
    MAC: 52:54:00:01:80:16
Network:
  FQDN: stg-app2.dc1.example.com
  IP: 10.1.128.22
  MAC: 52:54:00:01:80:16
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: 2290ed02-d5cc-418b-a5bb-b6425bc2e831
