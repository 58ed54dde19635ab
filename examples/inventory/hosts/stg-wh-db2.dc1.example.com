Interfaces:
  eth0:
    IP: 10.1.129.32
    MAC: 52:54:00:01:81:20
Network:
  FQDN: stg-wh-db2.dc1.example.com
  IP: 10.1.129.32
  MAC: 52:54:00:01:81:20
Owner: dba
Physical Location:
  Datacenter: dc1
Status: active
VM:
  Box: box26.dc1.example.com
  CPUs: 4
  Disk: 120GiB
  Image: debian-12-mariadb
  Memory: 16GiB
  OnBoxLoss: keep
  Power: on
  Subnet: staging-dc1
  UUID: 1cc0574c-4bc0-4931-a4be-b4aedd8d7ab7
