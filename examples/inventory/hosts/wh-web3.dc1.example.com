Interfaces:
  eth0:
    IP: 10.1.16.13
    MAC: 52:54:00:01:10:0d
Network:
  FQDN: wh-web3.dc1.example.com
  IP: 10.1.16.13
  MAC: 52:54:00:01:10:0d
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
  UUID: fd6fbabf-eb49-48df-8b6d-57eb68a767dc
