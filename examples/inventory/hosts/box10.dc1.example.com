---
Hardware:
  Asset: 0755
  BIOS: 6.4.0
  CPU: 2 x Intel Xeon E5645
  Hyperthreading: no
  Memory: 12 x 4GB
  Model: PowerEdge R610
  OOB: 10.1.240.10
  Purchased: 2011-09-30
  RAID: PERC H700
  Service Tag: JZ7RRJ2
  Storage: 6 x 146GB SAS
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.10
    MAC: 00:26:b9:00:2b:d7
    Port: ge-0/0/1
    Switch: sw-r11-a
  eth1:
    MAC: 00:26:b9:00:2d:9e
    Port: ge-0/0/1
    Switch: sw-r11-b
Network:
  FQDN: box10.dc1.example.com
  IP: 10.1.0.10
  MAC: 00:26:b9:00:2b:d7
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r11
  U Number: 04
Status: retired
