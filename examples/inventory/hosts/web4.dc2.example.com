Interfaces:
  eth0:
    IP: 10.2.8.14
    MAC: 52:54:00:02:08:0e
Network:
  FQDN: web4.dc2.example.com
  IP: 10.2.8.14
  IPv6: 2001:db8:2:8::14
  MAC: 52:54:00:02:08:0e
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box82.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 5190a22d-06ba-4523-aa50-19a88783cb20
