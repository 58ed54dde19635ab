Hardware:
  BIOS: 3.4
  CPU: 1 x Intel Xeon Gold 6226R
  Hyperthreading: no
  Memory: 8 x 32GB
  Model: SYS-1029P
  OOB: 10.1.240.71
  Purchased: 2020-02-11
  RAID: none
  Service Tag: 3K8GFJ2
  Slot: 010
  Storage: 4 x 1.92TB NVMe
  Vendor: Supermicro
Interfaces:
  eth0:
    IP: 10.1.0.71
    MAC: ac:1f:6b:00:a1:25
    Port: ge-0/0/5
    Switch: sw-r12-a
  eth1:
    MAC: ac:1f:6b:00:a2:ec
    Port: ge-0/0/5
    Switch: sw-r12-b
Network:
  FQDN: cb1.dc1.example.com
  IP: 10.1.0.71
  MAC: ac:1f:6b:00:a1:25
Owner: ops
Physical Location:
  Datacenter: dc1
  Rack Number: r12
  U Number: 08
Status: active
