Interfaces:
  eth0:
    IP: 10.1.1.51
    MAC: 52:54:00:01:01:33
Network:
  FQDN: puppet1.dc1.example.com
  IP: 10.1.1.51
  MAC: 52:54:00:01:01:33
  cname: puppet.dc1.example.com
Owner: ops
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 4
  Disk: 60GiB
  Image: debian-12
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: prod-dc1
  UUID: 9db90e3e-ae4f-4633-81b1-9db6e4350091
