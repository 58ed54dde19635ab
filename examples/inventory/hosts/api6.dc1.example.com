Interfaces:
  eth0:
    IP: 10.1.8.56
    MAC: 52:54:00:01:08:38
Network:
  FQDN: api6.dc1.example.com
  IP: 10.1.8.56
  MAC: 52:54:00:01:08:38
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box28.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: b490ce05-ddaa-430b-919d-839571c4d52e
