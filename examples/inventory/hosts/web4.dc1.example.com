Interfaces:
  eth0:
    IP: 10.1.8.14
    MAC: 52:54:00:01:08:0e
Network:
  FQDN: web4.dc1.example.com
  IP: 10.1.8.14
  IPv6: 2001:db8:1:8::14
  MAC: 52:54:00:01:08:0e
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box16.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 3eb9bb7a-fe3b-4434-92ca-a1d4c5cf1ccf
