package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/lbd"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
)

// callLB asks a node for its tables of backends: an lbQuestion, answered by an lbAnswer, in JSON.
const callLB = "lb.state.1"

// lbOff is said where nothing else can be.
const lbOff = "load balancing is off on this node (lb.enabled: false): ask a node that balances"

// lbPatience is how long is waited for a holder. It is short: whom people ask when a holder is silent shows what it plans itself.
const lbPatience = 2 * time.Second

// lbQuestion names the addresses that are asked for.
type lbQuestion struct {
	VIPs []netip.Addr `json:"vips"`
}

// lbAnswer is what a node has of those.
type lbAnswer struct {
	Applied  string          `json:"applied"`
	Error    string          `json:"error,omitempty"`
	Services []*plan.Service `json:"services"`
	VIPs     []lbd.VIPState  `json:"vips"`
}

// lbAnswerOf is the answer from a state.
func lbAnswerOf(s lbd.State, vips []netip.Addr) lbAnswer {
	out := lbAnswer{Applied: s.Applied, Error: s.Error}
	for _, x := range s.Services {
		if slices.Contains(vips, x.VIP) {
			out.Services = append(out.Services, x)
		}
	}
	for _, v := range s.VIPs {
		if slices.Contains(vips, v.Addr) {
			out.VIPs = append(out.VIPs, v)
		}
	}
	return out
}

// lbDB is the replica that drains are entered in: *hostdb.Store.
type lbDB interface {
	View() hostdb.View
	Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (hostdb.Commit, error)
}

// lbMesh is where holders are asked: *mesh.Mesh.
type lbMesh interface {
	View() mesh.View
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
}

// lbDesk implements api.LB.
type lbDesk struct {
	db      lbDB
	net     lbMesh
	log     *slog.Logger
	self    string // id of this node
	state   func() lbd.State
	explain func(tag, host string) plan.Explanation
	duty    func(ctx context.Context, duty string) (api.DutyExplanation, error)
}

func (a *Agent) lbDesk() *lbDesk {
	return &lbDesk{
		db: a.store, net: a.mesh, log: a.log, self: a.dir.nodeID, duty: duties{a}.ExplainDuty,
		state: func() lbd.State {
			if a.lb.daemon == nil {
				return lbd.State{Error: lbOff}
			}
			return a.lb.daemon.State()
		},
		explain: func(tag, host string) plan.Explanation {
			if a.lb.daemon == nil {
				return plan.Explanation{Tag: tag, Host: host, Lines: []string{lbOff}}
			}
			return a.lb.daemon.Explain(tag, host)
		},
	}
}

// serveLB answers other nodes.
func (a *Agent) serveLB() {
	a.mesh.Handle(callLB, func(_ context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
		var q lbQuestion
		if err := json.Unmarshal(req, &q); err != nil {
			return nil, fmt.Errorf("%s: the question cannot be read: %w", callLB, err)
		}
		return json.Marshal(lbAnswerOf(a.lb.daemon.State(), q.VIPs))
	})
}

// LBServices implements api.LB.
func (d *lbDesk) LBServices(ctx context.Context) (api.LBList, error) {
	s := d.state()
	if s.Error != "" && len(s.Services) == 0 {
		return api.LBList{}, fmt.Errorf("%s: %w", s.Error, api.ErrNotFound)
	}
	return api.LBList{Version: s.Version, Services: d.services(ctx, s, func(string) bool { return true })}, nil
}

// LBService implements api.LB.
func (d *lbDesk) LBService(ctx context.Context, tag string) (api.LBService, error) {
	list := d.services(ctx, d.state(), func(name string) bool { return name == tag })
	if len(list) > 0 {
		return list[0], nil
	}
	return api.LBService{}, d.notBalanced(tag)
}

// notBalanced is why there is nothing to be said of a tag.
func (d *lbDesk) notBalanced(tag string) error {
	if !d.db.View().Exists(hostdb.Tags, tag) {
		return fmt.Errorf("tags/%s: %w", tag, hostdb.ErrNotFound)
	}
	if s := d.state(); s.Error != "" && len(s.Services) == 0 {
		return fmt.Errorf("%s: %w", s.Error, api.ErrNotFound)
	}
	return fmt.Errorf("tags/%s is not balanced, for it has no section LB: %w", tag, api.ErrNotFound)
}

// services are those of the tags that are wanted, by tag, with the tables of their holders.
func (d *lbDesk) services(ctx context.Context, s lbd.State, wanted func(tag string) bool) []api.LBService {
	own := map[string]*plan.Service{}
	problems := map[string][]api.LBProblem{}
	var tags []string
	for _, x := range s.Services {
		if wanted(x.Tag) {
			own[x.Tag] = x
			tags = append(tags, x.Tag)
		}
	}
	for _, p := range s.Problems {
		if !wanted(p.Tag) {
			continue
		}
		if own[p.Tag] == nil && problems[p.Tag] == nil {
			tags = append(tags, p.Tag)
		}
		problems[p.Tag] = append(problems[p.Tag], api.LBProblem{Name: string(p.Name), Host: p.Host, Text: p.Text})
	}
	slices.Sort(tags)
	holders := map[netip.Addr]lbd.VIPState{}
	for _, v := range s.VIPs {
		holders[v.Addr] = v
	}
	ask := map[string][]netip.Addr{} // node -> VIPs
	for _, x := range own {
		if id := holders[x.VIP].Holder; id != "" && !slices.Contains(ask[id], x.VIP) {
			ask[id] = append(ask[id], x.VIP)
		}
	}
	said, silent := d.ask(ctx, s, ask)
	mv := d.net.View()
	checks := checksOf(mv)
	out := make([]api.LBService, 0, len(tags))
	for _, tag := range tags {
		x := own[tag]
		if x == nil {
			out = append(out, api.LBService{Tag: tag, Problems: problems[tag]})
			continue
		}
		holder := holders[x.VIP].Holder
		v := lbView{service: x, by: d.self, version: s.Version}
		switch {
		case holder == "":
			v.notHeld = "no node is known to hold the VIP: this is what would be in force"
		case silent[holder] != nil:
			v.notHeld = fmt.Sprintf("the holder cannot be asked (%s): this is what %s plans", silent[holder], d.name(mv, d.self))
		default:
			a := said[holder]
			i := slices.IndexFunc(a.Services, func(h *plan.Service) bool { return h.Tag == tag && h.VIP == x.VIP })
			if i < 0 {
				v.notHeld = "the holder does not have this tag yet: this is what will be in force"
				break
			}
			v.service, v.by, v.version, v.err = a.Services[i], holder, a.Applied, a.Error
		}
		row := v.row(mv, holder, checks)
		row.Problems = problems[tag]
		if holder != "" {
			row.Holder = d.holder(mv, holder, x.VIP, said[holder])
		}
		if holder == "" {
			row.Refusal, row.Trial = holders[x.VIP].Refusal, s.Aloof
		}
		row.By = &api.NodeName{ID: v.by, Name: d.name(mv, v.by)}
		out = append(out, row)
	}
	return out
}

// ask asks nodes for what they have of addresses, all at once.
func (d *lbDesk) ask(ctx context.Context, own lbd.State, nodes map[string][]netip.Addr) (said map[string]lbAnswer, silent map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, lbPatience)
	defer cancel()
	said, silent = map[string]lbAnswer{}, map[string]error{}
	var mu sync.Mutex // guards said and silent
	var wg sync.WaitGroup
	for id, vips := range nodes {
		wg.Go(func() {
			a, err := lbAnswerOf(own, vips), error(nil)
			if id != d.self {
				a, err = d.askOne(ctx, id, vips)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent[id] = err
				return
			}
			said[id] = a
		})
	}
	wg.Wait()
	return said, silent
}

func (d *lbDesk) askOne(ctx context.Context, id string, vips []netip.Addr) (a lbAnswer, err error) {
	req, err := json.Marshal(lbQuestion{vips})
	if err != nil {
		return a, err
	}
	text, err := d.net.Call(ctx, id, callLB, req)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("its answer cannot be read: %w", err)
	}
	a.Services = slices.DeleteFunc(a.Services, func(s *plan.Service) bool { return s == nil })
	return a, nil
}

func (d *lbDesk) name(mv mesh.View, id string) string {
	m, _ := mv.Get(id)
	return m.Name
}

// holder is who has an address: by what it says itself, else by its report.
func (d *lbDesk) holder(mv mesh.View, id string, addr netip.Addr, said lbAnswer) *api.LBHolder {
	h := &api.LBHolder{NodeName: api.NodeName{ID: id, Name: d.name(mv, id)}}
	if r, ok := mv.Report(id); ok && r.LB != nil {
		v := r.LB.VIPs[addr.String()]
		h.Fence, h.Phase, h.Why = v.Fence, v.Phase, v.Why
	}
	for _, v := range said.VIPs {
		if v.Addr != addr {
			continue
		}
		h.Fence, h.Since = v.Fence, since(v.Since)
		if v.Claim != nil {
			h.Phase, h.Why, h.Interface = string(v.Claim.Phase), v.Claim.Why, v.Claim.Interface
		}
	}
	return h
}

// sighting is what a node found of a port of a member.
type sighting struct {
	node  string
	check report.Check
}

// checksOf are what all nodes found, by report.CheckKey.
func checksOf(mv mesh.View) map[string][]sighting {
	out := map[string][]sighting{}
	for r := range mv.Reports() {
		for key, c := range r.Checks {
			out[key] = append(out[key], sighting{r.Node, c})
		}
	}
	return out
}

// lbView is a table of backends, and where it comes from.
type lbView struct {
	service               *plan.Service
	by                    string // id of the node whose it is
	version, notHeld, err string
}

// row is a service without its problems and holder.
func (v lbView) row(mv mesh.View, holder string, checks map[string][]sighting) api.LBService {
	x := v.service
	out := api.LBService{
		Tag: x.Tag, Balanced: true, VIP: x.VIP.String(), Subnet: x.Subnet, Datacenter: x.Datacenter, Mode: string(x.Mode), Balance: string(x.Balance),
		Check:      &api.LBCheck{Type: x.Check.Type, IntervalMS: x.Check.Interval.Milliseconds(), Rise: x.Check.Rise, Fall: x.Check.Fall},
		Masquerade: x.Masquerade, DrainMS: x.Drain.Milliseconds(), NoQuorum: "drop",
		NotHeld: v.notHeld, Version: v.version, Changed: x.Version, Error: v.err, FailOpen: x.FailOpen, Kept: x.Kept,
	}
	if x.Keep {
		out.NoQuorum = "keep"
	}
	for _, f := range x.Ports {
		out.Ports = append(out.Ports, api.LBPort{Port: f.Port, Proto: string(f.Proto), To: f.To})
	}
	for _, b := range x.Backends {
		y := api.LBBackend{Host: b.Host, Addr: b.Addr.String(), State: string(b.State), Cause: string(b.Cause), Why: b.Why, Held: b.Held}
		if b.State == plan.Draining {
			y.Until = since(b.Since.Add(x.Drain))
		}
		seen := map[string]bool{} // several ports of the VIP may lead to one of the backend
		for _, f := range x.Ports {
			key := report.CheckKey(x.Tag, b.Host, f.To, string(f.Proto))
			if seen[key] {
				continue
			}
			seen[key] = true
			for _, c := range checks[key] {
				y.Checks = append(y.Checks, sightOf(mv, c, f, holder))
			}
		}
		slices.SortStableFunc(y.Checks, func(a, b api.LBSight) int {
			first := func(s api.LBSight) int {
				if s.Holder {
					return 0
				}
				return 1
			}
			return cmp.Or(first(a)-first(b), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		})
		out.Backends = append(out.Backends, y)
	}
	return out
}

func sightOf(mv mesh.View, c sighting, f plan.Forward, holder string) api.LBSight {
	m, _ := mv.Get(c.node)
	return api.LBSight{
		NodeName: api.NodeName{ID: c.node, Name: m.Name}, Holder: c.node == holder, Alive: m.State == mesh.StateAlive, Port: f.To, Proto: string(f.Proto),
		State: string(c.check.State), Bad: c.check.Bad, Since: at(c.check.Since), Reason: c.check.Reason,
	}
}

// ExplainLB implements api.LB.
func (d *lbDesk) ExplainLB(ctx context.Context, tag, host string) (api.LBExplanation, error) {
	s := d.state()
	var service *plan.Service
	for _, x := range s.Services {
		if x.Tag == tag {
			service = x
		}
	}
	known := service != nil || slices.ContainsFunc(s.Problems, func(p plan.Problem) bool { return p.Tag == tag })
	if !known {
		return api.LBExplanation{}, d.notBalanced(tag)
	}
	out := api.LBExplanation{Tag: tag, Host: host}
	if host != "" {
		if !d.db.View().Exists(hostdb.Hosts, host) && (service == nil || !slices.ContainsFunc(service.Backends, func(b plan.Backend) bool { return b.Host == host })) {
			return api.LBExplanation{}, api.UnknownHost(d.db.View(), host)
		}
		e := d.explain(tag, host)
		out.State, out.Lines = string(e.State), e.Lines
		return out, nil
	}
	if service == nil {
		for _, p := range s.Problems {
			if p.Tag == tag {
				out.Lines = append(out.Lines, fmt.Sprintf("%s: %s", p.Name, p.Text))
			}
		}
		return out, nil
	}
	// Each backend's first line is about it; what follows is about the tag, and the same for all.
	var rest []string
	for i, b := range service.Backends {
		if i > 0 && service.Backends[i-1].Host == b.Host {
			continue
		}
		about := 0
		e := d.explain(tag, b.Host)
		for _, line := range e.Lines {
			if !strings.HasPrefix(line, b.Host+" ") {
				break
			}
			about++
		}
		out.Lines = append(out.Lines, e.Lines[:about]...)
		rest = e.Lines[about:]
	}
	if len(service.Backends) == 0 {
		for _, p := range s.Problems {
			if p.Tag == tag {
				rest = append(rest, fmt.Sprintf("%s: %s", p.Name, p.Text))
			}
		}
	}
	out.Lines = append(out.Lines, rest...)
	if row, err := d.LBService(ctx, tag); err == nil {
		out.Lines = append(out.Lines, troubles(row)...)
	}
	duty, err := d.duty(ctx, service.Duty())
	if err != nil {
		out.NoDuty = err.Error()
		return out, nil
	}
	out.Duty = &duty
	return out, nil
}

// troubles are what keeps a service from being in force at its holder.
func troubles(s api.LBService) (lines []string) {
	if h := s.Holder; h != nil && h.Phase != "" && h.Phase != string(vip.Held) {
		line := fmt.Sprintf("the VIP is %s at %s", h.Phase, cmp.Or(h.Name, h.ID))
		if h.Why != "" {
			line += ": " + h.Why
		}
		lines = append(lines, line)
	}
	if s.Error != "" {
		lines = append(lines, "it is not in force as HostDB has it, and what was stays: "+s.Error)
	}
	if s.Refusal != "" {
		lines = append(lines, "nobody holds the VIP; the node that answers does not: "+s.Refusal)
	}
	return lines
}

// DrainLBHost implements api.LB. Who may is decided by the access list of the host.
func (d *lbDesk) DrainLBHost(ctx context.Context, who api.Identity, host string, w api.LBDrain) (api.LBWritten, error) {
	given := strings.Join(strings.Fields(w.Reason), " ")
	reason := cmp.Or(given, "by "+who.User)
	text, err := json.Marshal(reason) // a JSON text is one in YAML, too
	if err != nil {
		return api.LBWritten{}, fmt.Errorf("the reason: %w", err)
	}
	doc, err := hostdb.ParseDocument(text)
	if err != nil {
		return api.LBWritten{}, fmt.Errorf("%w: the reason: %w", hostdb.ErrInvalid, err)
	}
	out, err := d.write(ctx, who, host, w.Log, func(tx *hostdb.Tx) error {
		was := strings.TrimSpace(tx.View().Data(hostdb.Hosts, host).Text(lbd.DrainKey))
		if was != "" && (given == "" || was == given) {
			return nil
		}
		return tx.PutPath(hostdb.Hosts, host, []string{lbd.DrainKey}, doc)
	})
	if err == nil && out.Changed {
		d.log.Info("host is taken out of balanced tags", "host", host, "user", who.User, "reason", reason, "revision", out.Revision)
	}
	return out, err
}

// EnableLBHost implements api.LB.
func (d *lbDesk) EnableLBHost(ctx context.Context, who api.Identity, host string, w api.LBEnable) (api.LBWritten, error) {
	out, err := d.write(ctx, who, host, w.Log, func(tx *hostdb.Tx) error {
		if !tx.View().Data(hostdb.Hosts, host).At(lbd.DrainKey).Exists() {
			return nil
		}
		return tx.DeletePath(hostdb.Hosts, host, []string{lbd.DrainKey})
	})
	if err == nil && out.Changed {
		d.log.Info("host is put back into balanced tags", "host", host, "user", who.User, "revision", out.Revision)
	}
	return out, err
}

func (d *lbDesk) write(ctx context.Context, who api.Identity, host, log string, fn func(*hostdb.Tx) error) (api.LBWritten, error) {
	if db := d.db.View(); !db.Exists(hostdb.Hosts, host) {
		return api.LBWritten{}, api.UnknownHost(db, host)
	}
	c, err := d.db.Update(ctx, request(who, log), fn)
	if err != nil {
		return api.LBWritten{}, err
	}
	out := api.LBWritten{Host: host, Changed: c.Changed(), Acks: c.Acks, Warnings: c.Warnings}
	if c.Changed() {
		out.Revision = c.Revision.String()
	}
	db := d.db.View()
	for _, tag := range db.Parents(host, hostdb.Tags) {
		if at := db.Data(hostdb.Tags, tag).At("LB"); at.Exists() && !at.IsNull() {
			out.Tags = append(out.Tags, tag)
		}
	}
	slices.Sort(out.Tags)
	return out, nil
}
