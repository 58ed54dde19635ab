Interfaces:
  eth0:
    IP: 10.2.8.52
    MAC: 52:54:00:02:08:34
Network:
  FQDN: api2.dc2.example.com
  IP: 10.2.8.52
  MAC: 52:54:00:02:08:34
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box74.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 78084ff8-a6de-4bf1-bf89-64788f509b10
