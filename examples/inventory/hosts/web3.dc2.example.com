Interfaces:
  eth0:
    IP: 10.2.8.13
    MAC: 52:54:00:02:08:0d
Network:
  FQDN: web3.dc2.example.com
  IP: 10.2.8.13
  IPv6: 2001:db8:2:8::13
  MAC: 52:54:00:02:08:0d
Owner: web
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box76.dc2.example.com
  CPUs: 4
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 8GiB
  OnBoxLoss: recreate
  Power: on
  Subnet: prod-dc2
  UUID: ca4e35ad-ca41-46c3-a20a-76bac50b65a3
