Interfaces:
  eth0:
    IP: 10.1.8.53
    MAC: 52:54:00:01:08:35
Network:
  FQDN: api3.dc1.example.com
  IP: 10.1.8.53
  MAC: 52:54:00:01:08:35
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 723bcb7c-4759-483d-8307-bed975fee9df
