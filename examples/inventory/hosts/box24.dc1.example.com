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
  OOB: 10.1.240.24
  Purchased: 2019-06-03
  RAID: PERC H740P
  Service Tag: HXBTPJ2
  Storage: 8 x 960GB SSD
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.1.0.24
    MAC: e4:43:4b:00:5d:9b
    Port: ge-0/0/2
    Switch: sw-r14-a
  eth1:
    MAC: e4:43:4b:00:5f:62
    Port: ge-0/0/2
    Switch: sw-r14-b
Network:
  FQDN: box24.dc1.example.com
  IP: 10.1.0.24
  MAC: e4:43:4b:00:5d:9b
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r14
  U Number: 05
Status: active
