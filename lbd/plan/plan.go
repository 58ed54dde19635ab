package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
)

// State is whether a backend gets connections.
type State string

// The states of a backend.
const (
	In       State = "in"
	Draining State = "draining" // no new ones; those that are there go on until Since + Drain
	Out      State = "out"
)

// Cause is why a backend is not simply in.
type Cause string

// The causes, "" for none. The first five are somebody's will, the others what was observed.
const (
	Gone        Cause = "gone"        // no member any more
	Retired     Cause = "retired"     // its Status
	Maintenance Cause = "maintenance" // its Status
	Moved       Cause = "moved"       // its host has another address, or none
	Drained     Cause = "drained"     // by a person

	Primary   Cause = "primary"   // of a database, which answers readers only while no replica does
	Behind    Cause = "behind"    // its database does not answer readers: it lags, does not apply, or does not run
	Machine   Cause = "machine"   // its virtual machine does not run
	Silent    Cause = "silent"    // its agent failed or was stopped
	Failing   Cause = "check"     // checks fail
	Unchecked Cause = "unchecked" // a newcomer that was not checked yet
)

// leaving reports whether somebody wants it out.
func (c Cause) leaving() bool {
	return c == Gone || c == Retired || c == Maintenance || c == Moved || c == Drained
}

// Backend is a member of a balanced tag, or one that was.
type Backend struct {
	Host string     `json:"host"` // key in hosts
	Addr netip.Addr `json:"addr"`
	// Weight is its share beside the others'; the section LB has none yet, and it is 1.
	Weight int   `json:"weight"`
	State  State `json:"state"`
	// Cause may be set of one that is in: by FailOpen, or because it is Held.
	Cause Cause `json:"cause,omitempty"`
	// Why is for people; "" = in, and nothing is to be said.
	Why string `json:"why,omitempty"`
	// Held says that HostDB or a person wants it out, and it stays for the pool's sake.
	Held bool `json:"held,omitempty"`
	// Since is when it began to drain; zero where it did not.
	Since time.Time `json:"since,omitzero"`
}

// pooled reports whether a backend counts as one that HostDB wanted in.
func (b *Backend) pooled() bool { return b.Held || !b.Cause.leaving() }

// Forward is a port of a VIP and the port of the backends behind it.
type Forward struct {
	Port  uint16        `json:"port"`
	Proto section.Proto `json:"proto"`
	To    uint16        `json:"to"`
}

// Service is a balanced tag. It is immutable.
type Service struct {
	Tag string     `json:"tag"`
	VIP netip.Addr `json:"vip"`
	// Subnet is the tag of the network that the VIP lies in, CIDR the network. Interface is its bridge, a hint where the VIP belongs.
	Subnet     string       `json:"subnet"`
	CIDR       netip.Prefix `json:"cidr"`
	Interface  string       `json:"interface,omitempty"`
	Datacenter string       `json:"datacenter,omitempty"` // whose lease group decides who holds the VIP; "" = not said
	// Ports are sorted by port and protocol.
	Ports      []Forward       `json:"ports"`
	Mode       section.Mode    `json:"mode"`
	Balance    section.Balance `json:"balance"`
	Check      section.Probe   `json:"check"`
	Masquerade bool            `json:"masquerade"`
	TLS        string          `json:"tls,omitempty"`
	Drain      time.Duration   `json:"drain_ns"`
	Keep       bool            `json:"keep"` // the VIP, when the lease group has no majority
	Force      string          `json:"force,omitempty"`
	// Backends are sorted by host and address. A host whose address changed has two for a while.
	Backends []Backend `json:"backends"`
	// FailOpen says that no backend is known to work, so all are in.
	FailOpen bool `json:"fail_open,omitempty"`
	// Kept says that the tag's section cannot be used, and this is what it said before.
	Kept bool `json:"kept,omitempty"`
	// Version is that of HostDB when the service last changed.
	Version string `json:"version"`
}

// Duty is what the holder of the VIP is elected for.
func (s *Service) Duty() string { return Duty(s.VIP) }

// Duty is the name of the duty of a VIP.
func Duty(vip netip.Addr) string { return "lb/" + vip.String() }

// Count is the number of backends in a state.
func (s *Service) Count(state State) int {
	n := 0
	for i := range s.Backends {
		if s.Backends[i].State == state {
			n++
		}
	}
	return n
}

// Problem is something that is not as HostDB says, or should not be said there.
type Problem struct {
	Name ProblemName `json:"name"`
	Tag  string      `json:"tag"`
	Host string      `json:"host,omitempty"` // whom alone it is about
	// Text says what is wrong, what comes of it, and what to do.
	Text string `json:"text"`
}

// ProblemName is the kind of a Problem.
type ProblemName string

// The problems. Of those up to PortClash a tag keeps its last good configuration, or is not balanced where there was none.
const (
	BadSection   ProblemName = "bad-section"
	NoSubnet     ProblemName = "vip-no-subnet"
	OutsideVIPs  ProblemName = "vip-outside-vips"
	VIPIsHost    ProblemName = "vip-is-host"
	VIPTaken     ProblemName = "vip-taken" // by MySQL of another tag
	UnknownCheck ProblemName = "unknown-check"
	PortClash    ProblemName = "port-clash"
	NoAddress    ProblemName = "no-address"   // a member is left out
	SameAddress  ProblemName = "same-address" // a member is left out
	NoMembers    ProblemName = "no-members"
	ShrinkHeld   ProblemName = "shrink-held"
	LastHeld     ProblemName = "last-held"
	AllFail      ProblemName = "fail-open"
	NoReaders    ProblemName = "no-read-vip" // ReadVIP of MySQL is not served
)

// Result is what is balanced. It is immutable.
type Result struct {
	Services []*Service `json:"services"` // by tag
	Problems []Problem  `json:"problems,omitempty"`
	// Changed are the tags whose service is another than in the result before, sorted; those that ended are among them.
	Changed []string `json:"-"`
	// Next is when the plan changes without a change of its input, because draining ends; zero = never.
	Next time.Time `json:"-"`
	// Version is that of HostDB.
	Version string `json:"version"`
}

// Service is that of a tag.
func (r Result) Service(tag string) (*Service, bool) {
	i, ok := slices.BinarySearchFunc(r.Services, tag, func(s *Service, tag string) int { return strings.Compare(s.Tag, tag) })
	if !ok {
		return nil, false
	}
	return r.Services[i], true
}

// VIP is an address to be held, for one service or more.
type VIP struct {
	Addr       netip.Addr
	Subnet     string
	CIDR       netip.Prefix
	Interface  string
	Datacenter string
	Keep       bool // when the lease group has no majority; only where all services say so
	HAProxy    bool // a service needs it
	NAT        bool // a service needs the kernel's
	Services   []*Service
}

// VIPs are the addresses of all services, sorted.
func (r Result) VIPs() []VIP {
	by := map[netip.Addr]*VIP{}
	for _, s := range r.Services {
		v := by[s.VIP]
		if v == nil {
			v = &VIP{Addr: s.VIP, Subnet: s.Subnet, CIDR: s.CIDR, Interface: s.Interface, Datacenter: s.Datacenter, Keep: true}
			by[s.VIP] = v
		}
		v.Keep = v.Keep && s.Keep
		v.NAT = v.NAT || s.Mode == section.NAT
		v.HAProxy = v.HAProxy || s.Mode != section.NAT
		v.Services = append(v.Services, s)
	}
	out := make([]VIP, 0, len(by))
	for _, v := range by {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b VIP) int { return a.Addr.Compare(b.Addr) })
	return out
}

// Judgement is what observers say of a backend.
type Judgement int

// The judgements.
const (
	Unknown Judgement = iota // not tried yet, or nobody reports it: what is in stays in, what is out stays out
	Up
	Down
)

// Verdict is what checks say of one backend of one tag.
type Verdict struct {
	Judgement Judgement
	Why       string // of Down, for people: "connection refused, say box1 and box2"
}

// Input is what a plan follows from beside the views.
type Input struct {
	// Now is the wall clock's: draining outlives a restart.
	Now time.Time
	// Verdict says what observers see of a backend. nil = nothing is checked, and all count as Up.
	Verdict func(tag, host string, addr netip.Addr) Verdict
	// Judged are the tags of which Verdict may say another thing than at the Plan before.
	Judged []string
	// Drained are the hosts that a person takes out: key -> reason.
	Drained map[string]string
	// Programs are the checks of checks.d that can be run. nil = none is judged.
	Programs map[string]bool
}

// Plan is what follows from two views and the last plan. A Planner gives the same at the cost of what changed.
func Plan(db hostdb.View, m mesh.View, in Input, last Result) Result {
	return NewPlanner(last).Plan(db, m, in)
}

func sortProblems(list []Problem) {
	slices.SortFunc(list, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Tag, b.Tag), strings.Compare(string(a.Name), string(b.Name)), strings.Compare(a.Text, b.Text))
	})
}
