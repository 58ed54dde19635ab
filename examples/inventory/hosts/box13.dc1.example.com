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
  OOB: 10.1.240.13
  Purchased: 2016-03-14
  RAID: PERC H730
  Service Tag: 5XMHQJ2
  Storage: 6 x 600GB SAS
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.13
    MAC: f8:bc:12:00:36:81
    Port: ge-0/0/4
    Switch: sw-r11-a
  eth1:
    MAC: f8:bc:12:00:38:48
    Port: ge-0/0/4
    Switch: sw-r11-b
Network:
  FQDN: box13.dc1.example.com
  IP: 10.1.0.13
  MAC: f8:bc:12:00:36:81
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r11
  U Number: 07
Status: active
