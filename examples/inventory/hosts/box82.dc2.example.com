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
  OOB: 10.2.240.82
  Purchased: 2024-01-01
  RAID: none
  Service Tag: X2Z6VJ2
  Storage: 4 x 3.84TB NVMe
  Vendor: Dell
Interfaces:
  eth0:
    IP: 10.2.0.82
    MAC: 04:32:01:00:9d:97
    Port: ge-0/0/4
    Switch: sw-r23-a
  eth1:
    MAC: 04:32:01:00:9f:5e
    Port: ge-0/0/4
    Switch: sw-r23-b
Network:
  FQDN: box82.dc2.example.com
  IP: 10.2.0.82
  MAC: 04:32:01:00:9d:97
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r23
  U Number: 07
Status: active
