package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/lbd"
	"hostmesh/lbd/check"
	"hostmesh/lbd/haproxy"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/lease"
	"hostmesh/node/api"
)

// lbDuty is the kind of the duties of virtual addresses, in the knob duties.
const lbDuty = "lb"

// balancing is what this agent balances with.
type balancing struct {
	daemon *lbd.Daemon
	// addresses are all that any daemon claims.
	addresses *vip.Table
	nat       *nft.Balancer
	proxy     *haproxy.Balancer // nil where it cannot be
	checks    *check.Runner
}

// haproxyDir is where HAProxy's file and sockets are, in the data directory. Its name is short: paths of sockets are bounded.
const haproxyDir = "haproxy"

// openLB makes the table of virtual addresses, and the daemon that balances what arrives at them. That this box may not change
// addresses is no reason not to run: it is not eligible, and says why.
func (a *Agent) openLB() error {
	if !a.cfg.LB.Enabled {
		return nil
	}
	cfg := lbd.Config{
		Node: a.dir.nodeID, Datacenter: a.cfg.Labels.Datacenter, Dir: a.dir.path, Report: a.mesh.Report, Clock: a.clock, Logger: a.log, Observe: a.cfg.Observe,
	}
	if a.lease != nil {
		cfg.Lease = grants{a.lease}
	}
	if !a.cfg.may(lbDuty) {
		cfg.Unfit = "duties in its configuration leaves lb out"
	}
	claims := a.dir.path
	if a.cfg.Observe {
		// What an earlier run claimed is left where it is, so its file is not looked at.
		var err error
		if claims, err = os.MkdirTemp("", "hostmesh-observe-"); err != nil {
			return err
		}
		a.closers = append(a.closers, func() error { return os.RemoveAll(claims) })
		cfg.Dir = claims
	}
	kernel, err := vip.OpenLinux(nil)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, kernel.Close)
	wire := vip.OpenNeighbours(nil, a.log)
	a.closers = append(a.closers, wire.Close)
	if a.lb.addresses, err = vip.Open(vip.Config{Dir: claims, Kernel: kernel, Announcer: wire, Logger: a.log}); err != nil {
		return err
	}
	a.closers = append(a.closers, a.lb.addresses.Close)
	nc := nft.DefaultConfig()
	nc.Logger = a.log
	if a.lb.nat, err = nft.Open(nc); err != nil {
		return err
	}
	a.closers = append(a.closers, a.lb.nat.Close)
	cfg.Addresses, cfg.NAT = a.lb.addresses, kernelNAT{a.lb.nat}
	if err := a.openProxy(&cfg); err != nil {
		return err
	}
	cc := check.DefaultConfig(cmp.Or(a.cfg.LB.Checks, checksDir))
	cc.Logger = a.log
	if a.lb.checks, err = check.Open(cc); err != nil {
		return err
	}
	cfg.Probes = a.lb.checks
	if a.lb.daemon, err = lbd.Open(cfg); err != nil {
		return err
	}
	a.loop.add(a.lb.daemon, false)
	a.serveLB()
	return nil
}

// grants implements lbd.Lease.
type grants struct{ *lease.Lease }

func (l grants) Campaign(ctx context.Context, duty string, hold func(context.Context, lbd.Grant) error) error {
	return l.Lease.Campaign(ctx, duty, func(ctx context.Context, g *lease.Grant) error { return hold(ctx, grant{g}) })
}

// grant implements lbd.Grant.
type grant struct{ *lease.Grant }

func (g grant) Number() uint64 { return g.Fence }

// openProxy prepares HAProxy. Where its directory cannot be, nothing is balanced in its modes here.
func (a *Agent) openProxy(cfg *lbd.Config) error {
	hc := haproxy.Config{Program: a.cfg.LB.HAProxy, Dir: a.dir.file(haproxyDir), TLSDir: cmp.Or(a.cfg.LB.Certificates, certificatesDir), Clock: a.clock, Logger: a.log}
	if a.cfg.Observe {
		hc.Dir = filepath.Join(cfg.Dir, haproxyDir) // what an earlier run left is not ended
	}
	b, err := haproxy.Open(context.Background(), hc)
	if err != nil {
		a.log.Error("nothing is balanced here in the modes tcp and http", "err", err)
		cfg.Proxy = unfitProxy{err}
		return nil
	}
	a.lb.proxy = b
	a.closers = append(a.closers, b.Close)
	cfg.Proxy = proxy{b}
	return nil
}

// unfitProxy implements lbd.Proxy where HAProxy cannot be run.
type unfitProxy struct{ err error }

func (p unfitProxy) Check() error { return p.err }

func (p unfitProxy) Apply(_ context.Context, want []*plan.Service) error {
	if len(want) == 0 {
		return nil
	}
	return p.err
}

func (unfitProxy) Carries() []string { return nil }

// kernelNAT implements lbd.NAT.
type kernelNAT struct{ *nft.Balancer }

func (kernelNAT) Check() error { return nft.Check() }

// proxy implements lbd.Proxy.
type proxy struct{ *haproxy.Balancer }

func (p proxy) Check() error { return p.Balancer.Check(context.Background()) }

func (p proxy) Carries() []string {
	s := p.Status()
	if s.Pid == 0 {
		return nil
	}
	return s.Services
}

// collectors are the metrics of all of it.
func (b *balancing) collectors() []prometheus.Collector {
	if b.daemon == nil {
		return nil
	}
	list := []prometheus.Collector{b.addresses.Collector(), b.nat.Collector(), b.checks.Collector(), b.daemon.Collector()}
	if b.proxy != nil {
		list = append(list, b.proxy.Collectors()...)
	}
	return list
}

// runLB balances. It ends when what is held was handed over, so the mesh and the lease must outlive it.
func (a *Agent) runLB(ctx context.Context) error {
	if err := a.lb.daemon.Run(ctx); err != nil {
		a.log.Error("load balancing did not end in order; its rules are removed when the agent starts again", "err", err)
	}
	return nil
}

// lbNote is what this node does for virtual addresses; idle is why it does nothing.
func (a *Agent) lbNote() (note, idle string) {
	s := a.lb.daemon.State()
	var holds, offers []string
	for _, v := range s.VIPs {
		switch {
		case v.Held || v.Claim != nil && v.Claim.Here():
			text := fmt.Sprintf("%s (fence %d", v.Addr, v.Fence)
			if v.Claim != nil && v.Claim.Phase != vip.Held {
				text += ", " + string(v.Claim.Phase)
			}
			holds = append(holds, text+")")
		case v.Refusal == "":
			offers = append(offers, v.Addr.String())
		}
	}
	switch {
	case len(s.VIPs) == 0:
		return "", "no tag has a section LB"
	case len(holds) > 0:
		return "holds " + strings.Join(holds, ", ") + "; members of hostdb " + s.Applied, ""
	case len(offers) > 0:
		return "", fmt.Sprintf("other nodes hold the %d virtual addresses that it would take", len(offers))
	}
	return "", "it can hold none of the virtual addresses: " + s.VIPs[0].Refusal
}

// lbProblems are what is wrong with load balancing, as far as this node is concerned.
func (a *Agent) lbProblems() (list []api.Problem) {
	if a.lb.daemon == nil {
		return nil
	}
	s := a.lb.daemon.State()
	add := func(severity, text, remedy string) {
		list = append(list, api.Problem{Severity: severity, Subject: "lb", Text: text, Remedy: remedy})
	}
	for _, p := range s.Problems {
		severity := api.SeverityError
		if p.Name == plan.NoAddress || p.Name == plan.SameAddress || p.Name == plan.NoMembers {
			severity = api.SeverityNotice
		}
		add(severity, p.Text, "")
	}
	for _, tag := range slices.Sorted(maps.Keys(s.Refused)) {
		add(api.SeverityError, s.Refused[tag], "")
	}
	for _, v := range s.VIPs {
		if v.Claim == nil {
			continue
		}
		switch v.Claim.Phase {
		case vip.Refused:
			add(api.SeverityError, fmt.Sprintf("VIP %s is not here: %s has it on %s", v.Addr, v.Claim.Stranger, v.Claim.Interface),
				"find out whose hardware address that is, or give the tag another VIP")
		case vip.Kept:
			add(api.SeverityError, fmt.Sprintf("VIP %s is kept although the lease group has no majority: on the other side of a cut it may be held, too", v.Addr),
				"bring voters back: hostmesh duties voters")
		case vip.Held:
			if v.Claim.Stranger != "" {
				add(api.SeverityError, fmt.Sprintf("VIP %s is here, and %s announces it on %s as well", v.Addr, v.Claim.Stranger, v.Claim.Interface),
					"find out whose hardware address that is")
			}
		}
	}
	return list
}
