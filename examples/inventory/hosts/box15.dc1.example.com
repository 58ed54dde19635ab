Box:
  CPUs: 32
  Disk: 1600GiB
  Memory: 116GiB
  Overcommit: 2
Hardware:
  BIOS: 2.10
  CPU: 2 x Intel Xeon E5-2630 v3
  Hyperthreading: yes
  Memory: 8 x 16GB
  Model: PowerEdge R630
  OOB: 10.1.240.15
  Purchased: 2016-03-14
  RAID: PERC H730
  Service Tag: BLTZ8J2
  Storage: 6 x 600GB SAS
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.15
    MAC: f8:bc:12:00:3d:9d
    Port: ge-0/0/1
    Switch: sw-r12-a
  eth1:
    MAC: f8:bc:12:00:3f:64
    Port: ge-0/0/1
    Switch: sw-r12-b
Network:
  FQDN: box15.dc1.example.com
  IP: 10.1.0.15
  MAC: f8:bc:12:00:3d:9d
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r12
  U Number: 04
Status: active
