package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// LB is load balancing: the tags that have a VIP, as the node that holds it has them, and as this node plans them where nobody does or the
// holder cannot be asked. Errors wrap ErrNotFound and hostdb's sentinels; hostdb.ErrDenied where who asks may not.
type LB interface {
	// LBServices are all balanced tags, and those that are meant to be and cannot, by name.
	LBServices(ctx context.Context) (LBList, error)
	// LBService is one of them.
	LBService(ctx context.Context, tag string) (LBService, error)
	// ExplainLB says why a host is, or is not, behind the VIP of a tag; without a host, why each of its backends is, and why the VIP is where it is.
	ExplainLB(ctx context.Context, tag, host string) (LBExplanation, error)
	// DrainLBHost enters that a host is to get no connections in any tag, and EnableLBHost that it may again. Entering the same again changes nothing.
	DrainLBHost(ctx context.Context, who Identity, host string, d LBDrain) (LBWritten, error)
	EnableLBHost(ctx context.Context, who Identity, host string, e LBEnable) (LBWritten, error)
}

// States of a backend.
const (
	LBIn       = "in"
	LBDraining = "draining"
	LBOut      = "out"
)

// LBList is the answer of GET /api/v1/lb.
type LBList struct {
	Version  string      `json:"version" doc:"The state of HostDB that the answering node planned from"`
	Services []LBService `json:"services" nullable:"false"`
}

// LBService is a balanced tag.
type LBService struct {
	Tag string `json:"tag"`
	// Balanced is false where only Tag and Problems are set.
	Balanced   bool     `json:"balanced" doc:"False when the tag has a section LB that cannot be used, and had none before that could: problems say why"`
	VIP        string   `json:"vip,omitempty"`
	Ports      []LBPort `json:"ports" nullable:"false"`
	Subnet     string   `json:"subnet,omitempty" doc:"Tag of the network that the VIP lies in"`
	Datacenter string   `json:"datacenter,omitempty" doc:"Whose nodes may hold the VIP; absent: those of the home datacenter"`
	Mode       string   `json:"mode,omitempty" doc:"nat, tcp or http"`
	Balance    string   `json:"balance,omitempty" doc:"How connections are divided: source or round-robin"`
	Check      *LBCheck `json:"check,omitempty"`
	Masquerade bool     `json:"masquerade,omitempty" doc:"True when backends see the holder's address and not the client's"`
	DrainMS    int64    `json:"drain_ms,omitempty" doc:"How long connections of a backend that is taken out may go on"`
	NoQuorum   string   `json:"no_quorum,omitempty" doc:"What becomes of the VIP when no duty can be granted: drop or keep"`

	Holder  *LBHolder `json:"holder,omitempty" doc:"Absent while no node is known to hold the VIP"`
	Refusal string    `json:"refusal,omitempty" doc:"Where nobody holds the VIP: why the answering node does not; absent when it offers itself"`
	Trial   bool      `json:"trial,omitempty" doc:"True where the answering node is on loopback, to try things: nobody will hold the VIP, and nothing is to be waited for"`
	// By is the node whose table this is.
	By      *NodeName `json:"by,omitempty" doc:"The node whose table of backends this is: the holder's, or, where that cannot be had, what the answering node plans"`
	NotHeld string    `json:"not_held,omitempty" doc:"Why this is not the holder's table; absent when it is"`
	Version string    `json:"version,omitempty" doc:"The state of HostDB that the table of backends was made from; absent when the holder never had one in force"`
	Changed string    `json:"changed,omitempty" doc:"The state of HostDB with which the table last changed"`
	// Error is why what is planned is not in force.
	Error    string      `json:"error,omitempty" doc:"Why the holder's kernel or HAProxy does not have the table; absent when it has"`
	FailOpen bool        `json:"fail_open,omitempty" doc:"True when no backend works, so all are in"`
	Kept     bool        `json:"kept,omitempty" doc:"True when the section LB cannot be used, and this is what it said before"`
	Backends []LBBackend `json:"backends" nullable:"false"`
	Problems []LBProblem `json:"problems" nullable:"false" doc:"What is not as HostDB says, or should not be said there"`
}

// Count is the number of backends in a state.
func (s LBService) Count(state string) (n int) {
	for _, b := range s.Backends {
		if b.State == state {
			n++
		}
	}
	return n
}

// LBPort is a port of a VIP.
type LBPort struct {
	Port  uint16 `json:"port"`
	Proto string `json:"proto" enum:"tcp,udp"`
	To    uint16 `json:"to" doc:"Port of the backends"`
}

// LBCheck is how backends are tried.
type LBCheck struct {
	Type       string `json:"type" doc:"tcp, http, dns, mysql, or the name of a program"`
	IntervalMS int64  `json:"interval_ms"`
	Rise       int    `json:"rise" doc:"Good answers in a row that put a backend in"`
	Fall       int    `json:"fall" doc:"Bad answers in a row that put it out"`
}

// LBHolder is the node that has a VIP.
type LBHolder struct {
	NodeName
	Fence uint64     `json:"fence" doc:"Fencing number of its grant"`
	Since *time.Time `json:"since,omitempty" doc:"Since when it has the grant; absent when the holder cannot be asked"`
	Phase string     `json:"phase,omitempty" doc:"How its claim to the address stands: held where the address is there"`
	Why   string     `json:"why,omitempty" doc:"Why the address is not there"`
	// Interface is where the address is.
	Interface string `json:"interface,omitempty"`
}

// LBBackend is a member of a balanced tag, or one that was.
type LBBackend struct {
	Host  string `json:"host"`
	Addr  string `json:"addr"`
	State string `json:"state" doc:"in: gets connections. draining: no new ones; those that are there go on. out: none"`
	Cause string `json:"cause,omitempty" doc:"Why it is not simply in: gone, retired, maintenance, moved, drained; machine, silent, check, unchecked"`
	Why   string `json:"why,omitempty" doc:"The same for people"`
	Held  bool   `json:"held,omitempty" doc:"True when HostDB or a person wants it out, and it stays for the pool's sake"`
	// Until is when it is done with draining.
	Until  *time.Time `json:"until,omitempty" doc:"When what is left of its connections is cut"`
	Checks []LBSight  `json:"checks" nullable:"false" doc:"What those who try it found: the holder first"`
}

// LBSight is what one node found of a port of a backend.
type LBSight struct {
	NodeName
	Holder bool       `json:"holder,omitempty" doc:"True of the node that holds the VIP"`
	Alive  bool       `json:"alive" doc:"False of a node that does not answer: it counts no more"`
	Port   uint16     `json:"port"`
	Proto  string     `json:"proto"`
	State  string     `json:"state" doc:"up or down"`
	Bad    int        `json:"bad,omitempty" doc:"Bad answers in a row"`
	Since  *time.Time `json:"since,omitempty" doc:"When the state began, by that node's clock"`
	Reason string     `json:"reason,omitempty" doc:"What the last bad answer was"`
}

// LBProblem is something that is not as HostDB says.
type LBProblem struct {
	Name string `json:"name" doc:"Its kind, such as vip-outside-vips, port-clash, shrink-held or fail-open"`
	Host string `json:"host,omitempty" doc:"Whom alone it is about"`
	Text string `json:"text" doc:"What is wrong, what comes of it, and what to do"`
}

// LBExplanation says why a tag is balanced as it is.
type LBExplanation struct {
	Tag   string   `json:"tag"`
	Host  string   `json:"host,omitempty"`
	State string   `json:"state,omitempty" doc:"Of the host: in, draining or out; absent when it is no backend"`
	Lines []string `json:"lines" nullable:"false" doc:"For people"`
	// Duty is why the VIP is where it is.
	Duty *DutyExplanation `json:"duty,omitempty" doc:"Without a host: who could hold the VIP"`
	// NoDuty is why there is none.
	NoDuty string `json:"no_duty,omitempty" doc:"Why it is not known who could hold the VIP"`
}

// LBDrain is what POST /api/v1/lbhosts/{host}/drain is sent.
type LBDrain struct {
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for those who wonder where the connections went. Absent: by whom"`
	Log    string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// LBEnable is what POST /api/v1/lbhosts/{host}/enable is sent.
type LBEnable struct {
	Log string `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// LBWritten is what became of a drain or its end.
type LBWritten struct {
	Host     string   `json:"host"`
	Changed  bool     `json:"changed" doc:"False when it was so already: nothing was written"`
	Revision string   `json:"revision,omitempty" doc:"Of the operation; absent when nothing changed"`
	Acks     int      `json:"acks" doc:"Boxes that hold it, this one included"`
	Tags     []string `json:"tags" nullable:"false" doc:"Balanced tags that the host is a member of"`
	Warnings []string `json:"warnings" nullable:"false"`
}

// lbReadTime is a question to the holder of each VIP, all at once, or to the leader of the duties.
const lbReadTime = 10 * time.Second

// lbOperation registers an operation about load balancing.
func lbOperation[In, Out any](a huma.API, op huma.Operation, f func(ctx context.Context, in *In) (Out, error)) {
	op.Tags = []string{"load balancing"}
	if op.Method != http.MethodGet {
		op.Security, op.Errors = writeSecurity, writeErrors
	}
	huma.Register(a, op, func(ctx context.Context, in *In) (*bodyOf[Out], error) {
		ctx, cancel := context.WithTimeout(ctx, lbReadTime)
		defer cancel()
		out, err := f(ctx, in)
		if err != nil {
			return nil, vmProblem(err)
		}
		return &bodyOf[Out]{out}, nil
	})
}

// lists are those that a program expects to find, empty or not.
func (s LBService) lists() LBService {
	s.Ports, s.Problems, s.Backends = orEmpty(s.Ports), orEmpty(s.Problems), slices.Clone(orEmpty(s.Backends))
	for i := range s.Backends {
		s.Backends[i].Checks = orEmpty(s.Backends[i].Checks)
	}
	return s
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func registerLB(a huma.API, lb LB) {
	lbOperation(a, huma.Operation{
		OperationID: "list-lb", Method: http.MethodGet, Path: "/api/v1/lb", Summary: "Balanced tags, their VIPs and backends",
		Description: "Each table of backends is that of the node that holds the VIP, which is asked, and names the state of HostDB that it was made from.",
	}, func(ctx context.Context, _ *struct{}) (LBList, error) {
		out, err := lb.LBServices(ctx)
		out.Services = slices.Clone(orEmpty(out.Services))
		for i := range out.Services {
			out.Services[i] = out.Services[i].lists()
		}
		return out, err
	})
	lbOperation(a, huma.Operation{
		OperationID: "get-lb", Method: http.MethodGet, Path: "/api/v1/lb/{tag}", Summary: "One balanced tag",
	}, func(ctx context.Context, in *struct {
		Tag string `path:"tag" maxLength:"253" example:"web"`
	}) (LBService, error) {
		out, err := lb.LBService(ctx, in.Tag)
		return out.lists(), err
	})
	lbOperation(a, huma.Operation{
		OperationID: "explain-lb", Method: http.MethodGet, Path: "/api/v1/lb/{tag}/explain", Summary: "Why a host is, or is not, behind a VIP",
		Description: "As the answering node plans it. Without a host: why each backend is, and who could hold the VIP.",
	}, func(ctx context.Context, in *struct {
		Tag  string `path:"tag" maxLength:"253" example:"web"`
		Host string `query:"host" maxLength:"253" doc:"Key of the host; absent: all backends"`
	}) (LBExplanation, error) {
		out, err := lb.ExplainLB(ctx, in.Tag, in.Host)
		out.Lines = orEmpty(out.Lines)
		if out.Duty != nil {
			out.Duty.Nodes = orEmpty(out.Duty.Nodes)
		}
		return out, err
	})
	written := func(w LBWritten, err error) (LBWritten, error) {
		w.Tags, w.Warnings = orEmpty(w.Tags), orEmpty(w.Warnings)
		return w, err
	}
	lbOperation(a, huma.Operation{
		OperationID: "drain-lb-host", Method: http.MethodPost, Path: "/api/v1/lbhosts/{host}/drain", Summary: "Take a host out of all balanced tags",
		Description: "Writes the key Drain of the host. It gets no new connections, and those that are there may go on as long as LB/Drain of the tag says. " +
			"The last backend of a tag stays. Whoever may write that key of the host may.",
	}, func(ctx context.Context, in *struct {
		Host string `path:"host" maxLength:"253" example:"web7"`
		Body LBDrain
	}) (LBWritten, error) {
		if err := logged(in.Body.Log); err != nil {
			return LBWritten{}, err
		}
		return written(lb.DrainLBHost(ctx, identityOf(ctx), in.Host, in.Body))
	})
	lbOperation(a, huma.Operation{
		OperationID: "enable-lb-host", Method: http.MethodPost, Path: "/api/v1/lbhosts/{host}/enable", Summary: "Put a drained host back into its balanced tags",
		Description: "Deletes the key Drain of the host. It gets connections when checks find it well. Whoever may write that key of the host may.",
	}, func(ctx context.Context, in *struct {
		Host string `path:"host" maxLength:"253" example:"web7"`
		Body LBEnable
	}) (LBWritten, error) {
		if err := logged(in.Body.Log); err != nil {
			return LBWritten{}, err
		}
		return written(lb.EnableLBHost(ctx, identityOf(ctx), in.Host, in.Body))
	})
}

// LBServices asks for all balanced tags.
func (c *Client) LBServices(ctx context.Context) (LBList, error) {
	var out LBList
	err := c.getJSON(ctx, "/api/v1/lb", &out)
	return out, err
}

// LBService asks for one balanced tag.
func (c *Client) LBService(ctx context.Context, tag string) (LBService, error) {
	var out LBService
	err := c.getJSON(ctx, "/api/v1/lb/"+url.PathEscape(tag), &out)
	return out, err
}

// ExplainLB asks why a host is, or is not, behind the VIP of a tag; see LB.
func (c *Client) ExplainLB(ctx context.Context, tag, host string) (LBExplanation, error) {
	var out LBExplanation
	err := c.getQuery(ctx, "/api/v1/lb/"+url.PathEscape(tag)+"/explain", map[string]string{"host": host}, &out)
	return out, err
}

// DrainLBHost takes a host out of all balanced tags.
func (c *Client) DrainLBHost(ctx context.Context, host string, d LBDrain) (LBWritten, error) {
	var out LBWritten
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/lbhosts/"+url.PathEscape(host)+"/drain", d, &out)
	return out, err
}

// EnableLBHost puts a host back.
func (c *Client) EnableLBHost(ctx context.Context, host string, e LBEnable) (LBWritten, error) {
	var out LBWritten
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/lbhosts/"+url.PathEscape(host)+"/enable", e, &out)
	return out, err
}
