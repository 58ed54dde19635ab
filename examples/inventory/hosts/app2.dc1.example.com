Interfaces:
  eth0:
    IP: 10.1.9.12
    MAC: 52:54:00:01:09:0c
Network:
  FQDN: app2.dc1.example.com
  IP: 10.1.9.12
  MAC: 52:54:00:01:09:0c
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box23.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: centos-7
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: fa81cab1-a03f-4a54-ac81-fb9bb4fefbb1
