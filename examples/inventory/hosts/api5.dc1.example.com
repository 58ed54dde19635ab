Interfaces:
  eth0:
    IP: 10.1.8.55
    MAC: 52:54:00:01:08:37
Network:
  FQDN: api5.dc1.example.com
  IP: 10.1.8.55
  MAC: 52:54:00:01:08:37
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box13.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: d01c9fb1-d783-4600-9090-794df9ee1c74
