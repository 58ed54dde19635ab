Interfaces:
  eth0:
    IP: 10.1.17.101
    MAC: 52:54:00:01:11:65
Network:
  FQDN: wh-job1.dc1.example.com
  IP: 10.1.17.101
  MAC: 52:54:00:01:11:65
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 80bb1d84-9edc-4735-a702-fa45edd0336b
