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
  OOB: 10.2.240.74
  Purchased: 2019-06-03
  RAID: PERC H740P
  Service Tag: 8NJHPJ2
  Storage: 8 x 960GB SSD
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.2.0.74
    MAC: e4:43:4b:00:81:27
    Port: ge-0/0/4
    Switch: sw-r21-a
  eth1:
    MAC: e4:43:4b:00:82:ee
    Port: ge-0/0/4
    Switch: sw-r21-b
Network:
  FQDN: box74.dc2.example.com
  IP: 10.2.0.74
  MAC: e4:43:4b:00:81:27
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r21
  U Number: 07
Status: active
