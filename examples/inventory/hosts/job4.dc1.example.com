Interfaces:
  eth0:
    IP: 10.1.9.104
    MAC: 52:54:00:01:09:68
Network:
  FQDN: job4.dc1.example.com
  IP: 10.1.9.104
  MAC: 52:54:00:01:09:68
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 4aed2af2-e210-45e9-b3c1-c568945480cd
