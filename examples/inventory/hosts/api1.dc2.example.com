Interfaces:
  eth0:
    IP: 10.2.8.51
    MAC: 52:54:00:02:08:33
Network:
  FQDN: api1.dc2.example.com
  IP: 10.2.8.51
  MAC: 52:54:00:02:08:33
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box80.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 72aabfb4-8456-4bd1-8296-cb8f307ea73e
