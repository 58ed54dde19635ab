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
  OOB: 10.2.240.76
  Purchased: 2019-06-03
  RAID: PERC H740P
  Service Tag: HCZ5YJ2
  Storage: 8 x 960GB SSD
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.2.0.76
    MAC: e4:43:4b:00:88:43
    Port: ge-0/0/2
    Switch: sw-r22-a
  eth1:
    MAC: e4:43:4b:00:8a:0a
    Port: ge-0/0/2
    Switch: sw-r22-b
Network:
  FQDN: box76.dc2.example.com
  IP: 10.2.0.76
  MAC: e4:43:4b:00:88:43
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r22
  U Number: 05
Status: active
