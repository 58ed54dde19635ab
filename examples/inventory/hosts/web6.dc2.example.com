Interfaces:
  eth0:
    IP: 10.2.8.16
    MAC: 52:54:00:02:08:10
Network:
  FQDN: web6.dc2.example.com
  IP: 10.2.8.16
  IPv6: 2001:db8:2:8::16
  MAC: 52:54:00:02:08:10
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box71.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: 1a1ee28d-ab22-4db9-a3c3-87e586d7036b
