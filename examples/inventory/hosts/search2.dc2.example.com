Interfaces:
  eth0:
    IP: 10.2.11.12
    MAC: 52:54:00:02:0b:0c
Network:
  FQDN: search2.dc2.example.com
  IP: 10.2.11.12
  MAC: 52:54:00:02:0b:0c
Owner: shipping
Physical Location:
  Datacenter: dc2
Status: active
VM:
  Box: box78.dc2.example.com
  CPUs: 8
  Disk: 300GiB
  Image: debian-12
  Memory: 32GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc2
  UUID: 9a515ee2-bbf9-467e-946f-5bf24a43b586
