Interfaces:
  eth0:
    IP: 10.1.8.54
    MAC: 52:54:00:01:08:36
Network:
  FQDN: api4.dc1.example.com
  IP: 10.1.8.54
  MAC: 52:54:00:01:08:36
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 38bb2613-300d-4538-8445-43394ef0d38d
