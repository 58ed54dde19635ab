Interfaces:
  eth0:
    IP: 10.1.8.15
    MAC: 52:54:00:01:08:0f
Network:
  FQDN: web5.dc1.example.com
  IP: 10.1.8.15
  IPv6: 2001:db8:1:8::15
  MAC: 52:54:00:01:08:0f
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box12.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 8f7b7b8a-df04-4915-8ac0-d1be5594867b
