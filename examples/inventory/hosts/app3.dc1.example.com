Interfaces:
  eth0:
    IP: 10.1.9.13
    MAC: 52:54:00:01:09:0d
Network:
  FQDN: app3.dc1.example.com
  IP: 10.1.9.13
  MAC: 52:54:00:01:09:0d
Owner: shipping
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box22.dc1.example.com
  CPUs: 8
  Disk: 60GiB
  Image: debian-11
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: adcbb555-c9aa-4af4-b67a-fcf65fb8cb81
