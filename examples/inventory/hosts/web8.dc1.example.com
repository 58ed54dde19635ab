Interfaces:
  eth0:
    IP: 10.1.8.18
    MAC: 52:54:00:01:08:12
Network:
  FQDN: web8.dc1.example.com
  IP: 10.1.8.18
  IPv6: 2001:db8:1:8::18
  MAC: 52:54:00:01:08:12
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 2f21356c-29e5-4345-a85c-2a997d3ee988
