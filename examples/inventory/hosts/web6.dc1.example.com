Interfaces:
  eth0:
    IP: 10.1.8.16
    MAC: 52:54:00:01:08:10
Network:
  FQDN: web6.dc1.example.com
  IP: 10.1.8.16
  IPv6: 2001:db8:1:8::16
  MAC: 52:54:00:01:08:10
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box27.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: fea76e4d-39bb-40df-872f-4c056a29f8c0
