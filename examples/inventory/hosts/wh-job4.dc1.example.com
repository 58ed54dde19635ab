Interfaces:
  eth0:
    IP: 10.1.17.104
    MAC: 52:54:00:01:11:68
Network:
  FQDN: wh-job4.dc1.example.com
  IP: 10.1.17.104
  MAC: 52:54:00:01:11:68
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box18.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 6518356e-3568-4b5e-9022-96e487407800
