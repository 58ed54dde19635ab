Interfaces:
  eth0:
    IP: 10.1.8.13
    MAC: 52:54:00:01:08:0d
Network:
  FQDN: web3.dc1.example.com
  IP: 10.1.8.13
  IPv6: 2001:db8:1:8::13
  MAC: 52:54:00:01:08:0d
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box21.dc1.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc1
  UUID: 93613078-c2c3-4a32-9e78-894a4d4b5069
