package lbd

import (
	"net/netip"
	"slices"
	"time"

	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/report"
)

// State is how load balancing stands on this node, for people and programs.
type State struct {
	// Version is that of HostDB of the plan; Applied that of what the kernel and HAProxy have.
	Version  string          `json:"version"`
	Applied  string          `json:"applied"`
	Services []*plan.Service `json:"services"` // by tag
	Problems []plan.Problem  `json:"problems,omitempty"`
	VIPs     []VIPState      `json:"vips"` // by address
	// Checks are what this node itself found, by report.CheckKey.
	Checks map[string]report.Check `json:"checks,omitempty"`
	// Aloof says that this node only shows what it plans: see Config.
	Aloof bool `json:"aloof,omitempty"`
	// Error is why the kernel or HAProxy do not have what is planned; "" = they have.
	Error string `json:"error,omitempty"`
}

// VIPState is how a virtual address stands.
type VIPState struct {
	Addr netip.Addr `json:"addr"`
	Duty string     `json:"duty"`
	// Holder is the node that reports to hold it; "" = none is known.
	Holder string `json:"holder,omitempty"`
	// Orphaned is since when this node sees no holder; zero while it sees one.
	Orphaned time.Time `json:"orphaned,omitzero"`
	// Refusal is why this node does not offer itself; "" = it does. Lacking says that it is for want of a right, of a program, or of something in the kernel.
	Refusal string `json:"refusal,omitempty"`
	Lacking bool   `json:"lacking,omitempty"`
	// Fence is of this node's grant, or of its last one; Held says that it has it now, Since since when.
	Fence uint64    `json:"fence,omitempty"`
	Held  bool      `json:"held,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Rules says that what arrives here is divided.
	Rules bool `json:"rules,omitempty"`
	// Claim is that of the address on this box. nil = there is none.
	Claim *vip.State `json:"claim,omitempty"`
}

// State tells how it stands. What it returns is the caller's, but for the services, which nobody may change.
func (d *Daemon) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{
		Version: d.result.Version, Applied: d.applied.version, Services: slices.Clone(d.result.Services), Problems: slices.Clone(d.result.Problems),
		Checks: d.sight.own, Aloof: d.cfg.Aloof,
	}
	for _, err := range []error{d.applied.natErr, d.applied.proxyErr} {
		if err != nil && s.Error == "" {
			s.Error = err.Error()
		}
	}
	for _, v := range d.result.VIPs() {
		x := VIPState{Addr: v.Addr, Duty: plan.Duty(v.Addr), Holder: d.sight.holder(v.Addr), Orphaned: d.orphaned[v.Addr], Refusal: d.fit.why(v)}
		x.Lacking = x.Refusal != "" && d.fit.lacks(v) == x.Refusal
		if p := d.posts[v.Addr]; p != nil {
			x.Fence, x.Held, x.Since, x.Rules = p.fence, p.grant != nil, p.since, p.claims > 0
			if p.handle != nil {
				c := p.handle.State()
				x.Claim = &c
			}
		}
		s.VIPs = append(s.VIPs, x)
	}
	return s
}

// Explain says why a host is, or is not, behind the address of a tag.
func (d *Daemon) Explain(tag, host string) plan.Explanation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.planner.Explain(tag, host)
}
