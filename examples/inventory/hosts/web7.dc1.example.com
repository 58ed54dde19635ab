Interfaces:
  eth0:
    IP: 10.1.8.17
    MAC: 52:54:00:01:08:11
Network:
  FQDN: web7.dc1.example.com
  IP: 10.1.8.17
  IPv6: 2001:db8:1:8::17
  MAC: 52:54:00:01:08:11
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box25.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 1aa7cf1e-db78-448b-8016-aed2c8fa9b90
