package section

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var equalValues = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func TestReadDNS(t *testing.T) {
	doc := parse(t, `
DNS:
  Zone: dc1.example.com
  TTL: 1h
  NS: ns1
  SOA: {RName: host.master@example.com, Minimum: 5}
  Records:
    "@": {MX: [10 mail1, 20 mail2.example.net.], TXT: v=spf1 mx -all, CAA: '0 issue "letsencrypt.org"'}
    "*.dev": {CNAME: dev1}
    www: {A: [10.1.0.1, "10.1.0.2"], AAAA: "2001:db8::1", TTL: 300}
    _ldap._tcp: {SRV: 0 50 636 ldap1}
    sub: {NS: [ns.sub], DS: 12345 13 2 aa}
    none: {MX: 0 .}
  Reverse: [10.1.0.0/16, "2001:db8:1::/48"]
  Transfer: {Allow: [10.1.1.11, 10.2.0.0/24], Notify: [10.1.1.11, "10.1.1.12:5353", "[2001:db8::1]:53"], Key: xfer}
`)
	got, problems := DNSOf(doc)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := &DNS{
		Zone: "dc1.example.com",
		TTL:  time.Hour,
		NS:   []string{"ns1"},
		SOA: SOA{RName: "host.master@example.com", Refresh: 15 * time.Minute, Retry: 5 * time.Minute,
			Expire: 7 * 24 * time.Hour, Minimum: 5 * time.Second},
		Records: map[string]RecordSet{
			"@": {MX: []MX{{10, "mail1"}, {20, "mail2.example.net."}}, TXT: []string{"v=spf1 mx -all"},
				CAA: []CAA{{0, "issue", "letsencrypt.org"}}},
			"*.dev":      {CNAME: "dev1"},
			"www":        {A: addrs("10.1.0.1", "10.1.0.2"), AAAA: addrs("2001:db8::1"), TTL: 5 * time.Minute},
			"_ldap._tcp": {SRV: []SRV{{0, 50, 636, "ldap1"}}},
			"sub":        {NS: []string{"ns.sub"}, Other: map[string][]string{"DS": {"12345 13 2 aa"}}},
			"none":       {MX: []MX{{0, "."}}},
		},
		Reverse: prefixes("10.1.0.0/16", "2001:db8:1::/48"),
		Transfer: Transfer{Allow: prefixes("10.1.1.11/32", "10.2.0.0/24"), Key: "xfer",
			Notify: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("10.1.1.11"), 0),
				netip.MustParseAddrPort("10.1.1.12:5353"), netip.MustParseAddrPort("[2001:db8::1]:53")}},
	}
	if diff := cmp.Diff(want, got, equalValues); diff != "" {
		t.Errorf("DNS (-want +got):\n%s", diff)
	}
}

func TestReadHost(t *testing.T) {
	h, problems := HostOf(parse(t, `
Network: {FQDN: web1.dc1.example.com, IP: 10.1.8.11, IPv6: "2001:db8::b", MAC: 00:11:22:33:44:55, cname: "www.dc1.example.com, static"}
Interfaces: {eth0: {MAC: 00-11-22-33-44-55, Switch: sw1, Port: 4}, eth1: }
Hardware: {OOB: 10.1.240.11, Slot: 010, Disks: [a, b]}
Physical Location: {Datacenter: dc1, Rack Number: r12, U Number: 08-11}
Status: Maintenance
Owner: shop
Expires: 2031-12-31
Protected: yes
Notes: anything
VM: {Box: box1, CPUs: 4, Memory: 8GiB, Disk: 1.5TiB, Power: true}
Box: {Overcommit: 1.5}
Puppet: {Parameters: {app: shop}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	mac := []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55}
	want := Host{
		Network: Network{FQDN: "web1.dc1.example.com", IP: addrs("10.1.8.11")[0], IPv6: addrs("2001:db8::b")[0], MAC: mac,
			CNames: Names{"www.dc1.example.com", "static"}},
		Interfaces: map[string]Interface{"eth0": {MAC: mac, Switch: "sw1", Port: "4"}, "eth1": {}},
		Hardware:   h.Hardware,
		Location:   Location{"dc1", "r12", Units{8, 11}},
		Status:     Maintenance,
		Owner:      "shop",
		Expires:    time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC),
		Protected:  true,
		VM:         &VM{Box: "box1", CPUs: 4, Memory: 8 << 30, Disk: 3 << 39, Power: true, OnBoxLoss: KeepVM},
		Box:        &Box{Overcommit: 1.5},
	}
	if diff := cmp.Diff(want, h, equalValues); diff != "" {
		t.Errorf("host (-want +got):\n%s", diff)
	}
	if got := h.Hardware.Notes["Slot"].Text(); got != "010" || h.Hardware.OOB != addrs("10.1.240.11")[0] || len(h.Hardware.Notes) != 2 {
		t.Errorf("hardware %+v", h.Hardware)
	}
}

func TestReadSections(t *testing.T) {
	got, problems := TagOf(parse(t, `
Priority: -10
LB: {VIP: 10.1.0.53, Ports: {53/udp: 53, 443/tcp: 8443}}
Group: {Min: 0, Max: 4, Name: "web%02d.example.com", Template: {Image: debian-12, Subnet: prod}, Scale: {}}
Placement: {Apart: {shop-db: Rack}, Together: {cache: none}}
MySQL: {VIP: 10.1.0.60, Credentials: shop, MaxLag: 1h30m}
Service: {Port: 53, Proto: UDP}
Monitoring: {Prometheus: {Port: 9100}}
Backup: {Schedule: "*/5 0-6 1,15 jan-mar mon"}
Logs: {Paths: /var/log/*.log, Keep: 2w, Forward: "[2001:db8::1]:514"}
Subnet:
Rack: {Row: 01}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Tag{
		Priority: -10,
		LB: &LB{VIP: addrs("10.1.0.53")[0], Ports: map[Port]uint16{{53, UDP}: 53, {443, TCP}: 8443}, Mode: NAT, Balance: RoundRobin,
			Check: Probe{"tcp", 2 * time.Second, 2, 3}, Masquerade: true, Drain: 5 * time.Minute, NoQuorum: DropVIP},
		Group: &Group{Max: 4, Name: "web%02d.example.com", Spread: SpreadRack,
			Template: Template{Image: "debian-12", CPUs: 1, Memory: 1 << 30, Subnet: "prod"},
			Scale:    &Scale{LoadCPU, 60, Cooldown{time.Minute, 10 * time.Minute}}},
		Placement:  &Placement{Spread: SpreadBox, Apart: map[string]Spread{"shop-db": SpreadRack}, Together: map[string]Spread{"cache": SpreadNone}},
		MySQL:      &MySQL{VIP: addrs("10.1.0.60")[0], Port: 3306, MaxLag: 90 * time.Minute, Credentials: "shop", Durability: Strict, Failover: Manual},
		Service:    &Service{Port: 53, Proto: UDP, Order: Random},
		Monitoring: &Monitoring{Prometheus: Prometheus{Port: 9100}},
		Backup:     &Backup{Schedule: "*/5 0-6 1,15 jan-mar mon", Keep: Keep{7, 4}},
		Logs: &Logs{Paths: []string{"/var/log/*.log"}, Rotate: Daily, Keep: 14 * 24 * time.Hour, Forward: "[2001:db8::1]:514",
			PurgeAfter: PurgeForwarded},
	}
	if diff := cmp.Diff(want, got, equalValues); diff != "" {
		t.Errorf("tag (-want +got):\n%s", diff)
	}
}

// TestFactsOf compares reading one fact with reading them all.
func TestFactsOf(t *testing.T) {
	for _, text := range []string{"", "VM: {}", "VM: {CPUs: 4, Memory: 4G, Subnet: prod}", "VM: 3", "VM:", "Box: {Memory: 3GiB}", "Box: 3", "{VM: {Power: off, Memry: 1}, Box: {Overcommit: 1000}}", "[]"} {
		doc := parse(t, text)
		h, all := HostOf(doc)
		vm, problems := VMOf(doc)
		box, more := BoxOf(doc)
		if diff := cmp.Diff(h.VM, vm, equalValues); diff != "" && (vm != nil || *h.VM != *new(VM)) {
			t.Errorf("%q: VM (-by HostOf +by VMOf):\n%s", text, diff)
		}
		if diff := cmp.Diff(h.Box, box, equalValues); diff != "" && (box != nil || *h.Box != *new(Box)) {
			t.Errorf("%q: Box (-by HostOf +by BoxOf):\n%s", text, diff)
		}
		for _, p := range append(problems, more...) {
			if !slices.Contains(all, p) {
				t.Errorf("%q: HostOf does not tell of %s", text, p)
			}
		}
		if text != "[]" && len(all) != len(problems)+len(more) {
			t.Errorf("%q: HostOf tells of %v", text, all)
		}
	}
}

// TestStatusOf compares the short way with the long one.
func TestStatusOf(t *testing.T) {
	for _, text := range []string{"", "Status: retired", "Status: RETIRED", "Status: maintenance", "Status: gone", "Status: [retired]", "[]"} {
		doc := parse(t, text)
		if h, _ := HostOf(doc); h.Status != StatusOf(doc) {
			t.Errorf("%q: %s by HostOf, %s by StatusOf", text, h.Status, StatusOf(doc))
		}
	}
}
