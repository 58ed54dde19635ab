Interfaces:
  eth0:
    IP: 10.1.9.102
    MAC: 52:54:00:01:09:66
Network:
  FQDN: job2.dc1.example.com
  IP: 10.1.9.102
  MAC: 52:54:00:01:09:66
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 6f78ac62-4b2c-487b-941f-63b2c07fb953
