package section

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// LB puts a virtual IP before the members of a tag and divides what arrives among those that work.
type LB struct {
	// VIP is the address that clients use. It lies in VIPs of a Subnet.
	VIP netip.Addr `need:"yes" example:"10.1.0.53"`
	// Ports are the ports of the VIP with their protocol, and the members' ports behind them.
	Ports map[Port]uint16 `need:"yes" min:"1" example:"{53/udp: 53, 53/tcp: 53}"`
	// Mode is how connections are passed on.
	Mode Mode `example:"http"`
	// Balance is how a member is chosen.
	Balance Balance `example:"source"`
	// Check is how a member shows that it works.
	Check Probe
	// Masquerade is whether members see the balancer's address instead of the client's, in mode nat. Off asks for members
	// whose way back leads through the balancer: those of another box answer past it, and their answers are lost.
	Masquerade bool `example:"off"`
	// TLS is the certificate that clients are shown, on all Ports, in the modes tcp and http: NAME.pem in balancer.d of the box,
	// with its chain and its key. Absent: what clients send is passed on as it is. Plain ports of the VIP stand in a tag of their own.
	TLS string `format:"file" example:"shop"`
	// Drain is how long connections of a member that is taken out may go on. After it they are cut.
	Drain time.Duration `min:"0s" max:"24h" example:"1m"`
	// NoQuorum is what the holder of the VIP does when its lease group has no majority.
	NoQuorum NoQuorum `example:"keep"`
	// Force lets the members shrink by over 30 % at once. A value that it had not before counts once, with what the members
	// are at that moment; so write why, and when.
	Force string `example:"2026-11-30 rack r12 goes"`
}

func (l *LB) defaults() {
	l.Mode = NAT              // takes every protocol, needs no other program, and members see the client's address
	l.Balance = RoundRobin    // right for members of a size
	l.Masquerade = true       // works wherever members are
	l.Drain = 5 * time.Minute // longer than nearly all requests, and an upgrade does not wait for an idle client
	l.NoQuorum = DropVIP      // one who cannot ask cannot know that nobody else has it, and an address in two places serves nobody
}

func (LB) example() string {
	return `VIP: 10.1.0.53
Ports: {53/udp: 53, 53/tcp: 53}
Mode: nat
Balance: source
Check: {Type: dns, Interval: 2s, Rise: 2, Fall: 3}
`
}

func (l *LB) check(r *report) {
	if l.TLS != "" && l.Mode == NAT {
		r.bad(l.TLS, "asks for Mode tcp or http: nat does not look into connections", "TLS")
	}
	for p := range l.Ports {
		if p.Proto == UDP && l.Mode != NAT {
			r.bad(string(l.Mode), "does not carry "+p.String()+"; expected nat for a tag with udp ports", "Mode")
			return
		}
	}
}

// Mode is how a balancer passes connections on.
type Mode string

// The values of Mode.
const (
	NAT  Mode = "nat"  // the kernel rewrites addresses
	Conn Mode = "tcp"  // HAProxy joins two connections
	HTTP Mode = "http" // HAProxy reads requests, and balances each
)

func (Mode) values() []string { return []string{string(NAT), string(Conn), string(HTTP)} }

// Balance is how a balancer chooses a member.
type Balance string

// The values of Balance.
const (
	RoundRobin Balance = "round-robin" // each in turn
	BySource   Balance = "source"      // by the client's address, which so keeps its member
)

func (Balance) values() []string { return []string{string(RoundRobin), string(BySource)} }

// NoQuorum is what becomes of a virtual IP whose holder cannot renew its lease, and hears of nobody else who could have it.
type NoQuorum string

// The values of NoQuorum.
const (
	KeepVIP NoQuorum = "keep" // serve on while most of the lease group is gone: in a network that is cut in two, both sides may
	DropVIP NoQuorum = "drop" // give it up
)

func (NoQuorum) values() []string { return []string{string(KeepVIP), string(DropVIP)} }

// Probe is how a member of a balanced tag shows that it works.
type Probe struct {
	// Type is what is tried: tcp (it connects), http (it answers below 400), dns (it answers a query), mysql (it greets),
	// or a program of that name in checks.d of the box.
	Type string `format:"file" example:"dns"`
	// Interval is how often it is tried.
	Interval time.Duration `min:"100ms" max:"1h" example:"2s"`
	// Rise is after how many good answers in a row a member is in.
	Rise int `min:"1" max:"100" example:"2"`
	// Fall is after how many bad answers in a row it is out.
	Fall int `min:"1" max:"100" example:"3"`
}

func (p *Probe) defaults() {
	p.Type = "tcp"               // the one thing that works for nearly every service
	p.Interval = 2 * time.Second // a dead member is out after about six seconds
	p.Rise = 2                   // one good answer may be chance
	p.Fall = 3                   // so may two bad ones
}

var probeTypes = []string{"tcp", "http", "dns", "mysql"}

func (p *Probe) check(r *report) {
	if slices.Contains(probeTypes, p.Type) {
		return
	}
	if near := nearest(p.Type, probeTypes); near != "" {
		r.bad(p.Type, "is not a known type; did you mean "+near+"? Known are "+strings.Join(probeTypes, ", ")+", and programs in checks.d", "Type")
	}
}
