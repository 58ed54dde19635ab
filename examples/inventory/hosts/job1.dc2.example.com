Interfaces:
  eth0:
    IP: 10.2.9.101
    MAC: 52:54:00:02:09:65
Network:
  FQDN: job1.dc2.example.com
  IP: 10.2.9.101
  MAC: 52:54:00:02:09:65
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 3067d6e4-fe8f-4a6f-9b75-252040ac48ed
