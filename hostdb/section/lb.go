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
}

func (l *LB) defaults() {
	l.Mode = NAT           // takes every protocol, needs no other program, and members see the client's address
	l.Balance = RoundRobin // right for members of a size
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
