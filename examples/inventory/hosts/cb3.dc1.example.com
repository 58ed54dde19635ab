Hardware:
  BIOS: 3.4
  CPU: 1 x Intel Xeon Gold 6226R
  Hyperthreading: no
  Memory: 8 x 32GB
  Model: SYS-1029P
  OOB: 10.1.240.73
  Purchased: 2020-02-11
  RAID: none
  Service Tag: HFSV5J2
  Storage: 4 x 1.92TB NVMe
  Vendor: Supermicro
Interfaces:
  eth0:
    IP: 10.1.0.73
    MAC: ac:1f:6b:00:a8:41
    Port: ge-0/0/5
    Switch: sw-r14-a
  eth1:
    MAC: ac:1f:6b:00:aa:08
    Port: ge-0/0/5
    Switch: sw-r14-b
Network:
  FQDN: cb3.dc1.example.com
  IP: 10.1.0.73
  MAC: ac:1f:6b:00:a8:41
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r14
  U Number: 08
Status: active
