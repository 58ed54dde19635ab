Interfaces:
  eth0:
    IP: 10.1.17.123
    MAC: 52:54:00:01:11:7b
Network:
  FQDN: wh-rpt3.dc1.example.com
  IP: 10.1.17.123
  MAC: 52:54:00:01:11:7b
Owner: warehouse
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box17.dc1.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 03eee454-de3b-4ec6-a2fb-079d43513819
