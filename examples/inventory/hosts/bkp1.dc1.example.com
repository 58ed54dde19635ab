Hardware:
  BIOS: 3.1
  CPU: 1 x Intel Xeon Silver 4210
  Hyperthreading: yes
  Memory: 4 x 32GB
  Model: SSG-6049P
  OOB: 10.1.240.91
  Purchased: 2019-11-25
  RAID: LSI 3108
  Service Tag: TZHFXJ2
  Storage: 36 x 10TB SATA
  Vendor: Supermicro
Interfaces:
  eth0:
    IP: 10.1.0.91
    MAC: ac:1f:6b:00:ad:96
    Port: ge-0/0/5
    Switch: sw-r15-a
  eth1:
    MAC: ac:1f:6b:00:af:5d
    Port: ge-0/0/5
    Switch: sw-r15-b
Network:
  FQDN: bkp1.dc1.example.com
  IP: 10.1.0.91
  MAC: ac:1f:6b:00:ad:96
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r15
  U Number: 08-11
Protected: true
Status: active
