Hardware:
  BIOS: 1.4
  CPU: 1 x Intel Xeon Silver 4310
  Hyperthreading: yes
  Memory: 4 x 32GB
  Model: SSG-640P
  OOB: 10.2.240.92
  Purchased: 2022-05-09
  RAID: LSI 3908
  Service Tag: BNV2TJ2
  Storage: 36 x 16TB SATA
  Vendor: Supermicro
Interfaces:
  eth0:
    IP: 10.2.0.92
    MAC: 3c:ec:ef:00:b4:b2
    Port: ge-0/0/5
    Switch: sw-r23-a
  eth1:
    MAC: 3c:ec:ef:00:b6:79
    Port: ge-0/0/5
    Switch: sw-r23-b
Network:
  FQDN: bkp1.dc2.example.com
  IP: 10.2.0.92
  MAC: 3c:ec:ef:00:b4:b2
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r23
  U Number: 08-11
Status: active
