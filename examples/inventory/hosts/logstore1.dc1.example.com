Hardware:
  BIOS: 3.1
  CPU: 1 x Intel Xeon Silver 4210
  Hyperthreading: yes
  Memory: 4 x 32GB
  Model: SSG-6029P
  OOB: 10.1.240.81
  Purchased: 2019-11-25
  RAID: LSI 3108
  Service Tag: 7NL67J2
  Storage: 12 x 8TB SATA
  Vendor: Supermicro
Interfaces:
  eth0:
    IP: 10.1.0.81
    MAC: 00:11:22:33:44:55
    Port: ge-0/0/6
    Switch: sw-r13-a
  eth1:
    MAC: ac:1f:6b:00:ab:cf
    Port: ge-0/0/6
    Switch: sw-r13-b
Network:
  FQDN: logstore1.dc1.example.com
  IP: 10.1.0.81
  MAC: 00:11:22:33:44:55
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r13
  U Number: 09-10
Status: active
