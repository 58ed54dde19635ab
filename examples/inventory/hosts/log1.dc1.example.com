Interfaces:
  eth0:
    IP: 10.1.3.41
    MAC: 52:54:00:01:03:29
Network:
  FQDN: log1.dc1.example.com
  IP: 10.1.3.41
  MAC: 52:54:00:01:03:29
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box29.dc1.example.com
  CPUs: 4
  Disk: 400GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 9220d282-608a-46c3-88f2-34b0b235b9fb
