Box:
  CPUs: 64
  Disk: 7000GiB
  Memory: 492GiB
  Overcommit: 1.5
Hardware:
  BIOS: 1.10
  CPU: 2 x AMD EPYC 7313
  Hyperthreading: yes
  Memory: 16 x 32GB
  Model: PowerEdge R6525
  OOB: 10.1.240.29
  Purchased: 2024-01-01
  RAID: none
  Service Tag: 3BVVPJ2
  Storage: 4 x 3.84TB NVMe
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.29
    MAC: 04:32:01:00:6f:61
    Port: ge-0/0/3
    Switch: sw-r15-a
  eth1:
    MAC: 04:32:01:00:71:28
    Port: ge-0/0/3
    Switch: sw-r15-b
Network:
  FQDN: box29.dc1.example.com
  IP: 10.1.0.29
  MAC: 04:32:01:00:6f:61
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r15
  U Number: 06
Status: active
