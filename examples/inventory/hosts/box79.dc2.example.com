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
  OOB: 10.2.240.79
  Purchased: 2024-01-01
  RAID: none
  Service Tag: CBHL2J2
  Storage: 4 x 3.84TB NVMe
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.2.0.79
    MAC: 04:32:01:00:92:ed
    Port: ge-0/0/1
    Switch: sw-r23-a
  eth1:
    MAC: 04:32:01:00:94:b4
    Port: ge-0/0/1
    Switch: sw-r23-b
Network:
  FQDN: box79.dc2.example.com
  IP: 10.2.0.79
  MAC: 04:32:01:00:92:ed
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r23
  U Number: 04
Status: active
