Interfaces:
  eth0:
    IP: 10.1.128.11
    MAC: 52:54:00:01:80:0b
Network:
  FQDN: stg-web1.dc1.example.com
  IP: 10.1.128.11
  MAC: 52:54:00:01:80:0b
Owner: web
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box12.dc1.example.com
  CPUs: 2
  Disk: 40GiB
  Image: debian-12-nginx
  Memory: 4GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: 72afe657-37c2-4245-84cb-0f817e0ddfc8
