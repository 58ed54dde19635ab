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
  OOB: 10.1.240.16
  Purchased: 2016-03-14
  RAID: PERC H730
  Service Tag: JLPQDJ2
  Storage: 6 x 600GB SAS
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.16
    MAC: f8:bc:12:00:41:2b
    Port: ge-0/0/2
    Switch: sw-r12-a
  eth1:
    MAC: f8:bc:12:00:42:f2
    Port: ge-0/0/2
    Switch: sw-r12-b
Network:
  FQDN: box16.dc1.example.com
  IP: 10.1.0.16
  MAC: f8:bc:12:00:41:2b
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r12
  U Number: 05
Status: active
