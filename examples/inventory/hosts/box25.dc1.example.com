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
  OOB: 10.1.240.25
  Purchased: 2019-06-03
  RAID: PERC H740P
  Service Tag: NL3PKJ2
  Storage: 8 x 960GB SSD
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.25
    MAC: e4:43:4b:00:61:29
    Port: ge-0/0/3
    Switch: sw-r14-a
  eth1:
    MAC: e4:43:4b:00:62:f0
    Port: ge-0/0/3
    Switch: sw-r14-b
Network:
  FQDN: box25.dc1.example.com
  IP: 10.1.0.25
  MAC: e4:43:4b:00:61:29
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r14
  U Number: 06
Status: active
