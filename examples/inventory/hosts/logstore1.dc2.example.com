Hardware:
  BIOS: 1.4
  CPU: 1 x Intel Xeon Silver 4310
  Hyperthreading: yes
  Memory: 4 x 32GB
  Model: SSG-620P
  OOB: 10.2.240.91
  Purchased: 2022-05-09
  RAID: LSI 3908
  Service Tag: 3GTWCJ2
  Storage: 12 x 16TB SATA
  Vendor: Supermicro
Interfaces:
  eth0:
    IP: 10.2.0.91
    MAC: 3c:ec:ef:00:b1:24
    Port: ge-0/0/5
    Switch: sw-r21-a
  eth1:
    MAC: 3c:ec:ef:00:b2:eb
    Port: ge-0/0/5
    Switch: sw-r21-b
Network:
  FQDN: logstore1.dc2.example.com
  IP: 10.2.0.91
  MAC: 3c:ec:ef:00:b1:24
Owner: ops
Physical Location:
  Datacenter: dc2
  Rack Number: r21
  U Number: 08-09
Status: active
