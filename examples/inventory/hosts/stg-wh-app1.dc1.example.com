Interfaces:
  eth0:
    IP: 10.1.129.21
    MAC: 52:54:00:01:81:15
Network:
  FQDN: stg-wh-app1.dc1.example.com
  IP: 10.1.129.21
  MAC: 52:54:00:01:81:15
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: 9fdeeb8c-492b-4db1-a858-fd75c79a99f9
