Box:
  CPUs: 40
  Disk: 3400GiB
  Memory: 368GiB
  Overcommit: 1.5
Hardware:
  BIOS: 2.19.1
  CPU: 2 x Intel Xeon Silver 4114
  Hyperthreading: yes
  Memory: 12 x 32GB
  Model: PowerEdge R640
  OOB: 10.2.240.73
  Purchased: 2019-06-03
  RAID: PERC H740P
  Service Tag: K7MGBJ2
  Storage: 8 x 960GB SSD
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.2.0.73
    MAC: e4:43:4b:00:7d:99
    Port: ge-0/0/3
    Switch: sw-r21-a
  eth1:
    MAC: e4:43:4b:00:7f:60
    Port: ge-0/0/3
    Switch: sw-r21-b
Network:
  FQDN: box73.dc2.example.com
  IP: 10.2.0.73
  MAC: e4:43:4b:00:7d:99
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r21
  U Number: 06
Status: active
