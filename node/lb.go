package node

import (
	"cmp"
	"context"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/lbd"
	"hostmesh/lbd/check"
	"hostmesh/lbd/haproxy"
	"hostmesh/lbd/nft"
	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
	"hostmesh/mesh/lease"
)

// lbDuty is the kind of the duties of virtual addresses, in the knob duties.
const lbDuty = "lb"

// balancing is what this agent balances with.
type balancing struct {
	daemon *lbd.Daemon
	// addresses are all that any daemon claims.
	addresses *vip.Table
	scratch   string // under --observe: a directory in place of the data directory
	nat       *nft.Balancer
	proxy     *haproxy.Balancer // nil where it cannot be
	checks    *check.Runner
}

// haproxyDir is where HAProxy's file and sockets are, in the data directory. Its name is short: paths of sockets are bounded.
const haproxyDir = "haproxy"

// openAddresses makes the table of virtual addresses. That this box may not change addresses is no reason not to run: it is not eligible for what
// needs one, and says why.
func (a *Agent) openAddresses() error {
	claims, err := a.claimsDir()
	if err != nil {
		return err
	}
	wire := vip.OpenNeighbours(nil, a.log)
	a.closers = append(a.closers, wire.Close)
	if a.lb.addresses, err = vip.Open(vip.Config{Dir: claims, Kernel: a.openKernel(), Announcer: wire, Logger: a.log}); err != nil {
		return err
	}
	a.closers = append(a.closers, a.lb.addresses.Close)
	return nil
}

// claimsDir is where it is kept what this box claimed. Under --observe that is nowhere: what an earlier run claimed is left where it is, so its file is not
// looked at.
func (a *Agent) claimsDir() (string, error) {
	if !a.cfg.Observe {
		return a.dir.path, nil
	}
	if a.lb.scratch == "" {
		dir, err := os.MkdirTemp("", "hostmesh-observe-")
		if err != nil {
			return "", err
		}
		a.closers = append(a.closers, func() error { return os.RemoveAll(dir) })
		a.lb.scratch = dir
	}
	return a.lb.scratch, nil
}

// openLB makes the daemon that balances what arrives at virtual addresses.
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
	switch {
	case a.onLoopback():
		// A mesh of one box, to try things: what it was told of is elsewhere, and is not touched from here.
		cfg.Unfit, cfg.Aloof = "its own address is a loopback one, so it holds no address of a network, and tries no member", true
	case !a.cfg.may(lbDuty):
		cfg.Unfit = "duties in its configuration leaves lb out"
	}
	var err error
	if cfg.Dir, err = a.claimsDir(); err != nil {
		return err
	}
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

// onLoopback reports whether only this box can reach the agent.
func (a *Agent) onLoopback() bool {
	addr, err := netip.ParseAddr(a.cfg.Addr)
	return err == nil && addr.IsLoopback()
}

// openKernel opens the kernel's doors; where they stay shut, what is behind them fails with the reason.
func (a *Agent) openKernel() vip.Kernel {
	kernel, err := vip.OpenLinux(nil)
	if err != nil {
		a.log.Error("this node can hold no virtual address", "err", err)
		return shut{err}
	}
	a.closers = append(a.closers, kernel.Close)
	return kernel
}

// shut implements vip.Kernel on a box whose kernel cannot be asked.
type shut struct{ err error }

func (s shut) Check() error                            { return s.err }
func (s shut) Links() ([]vip.Link, error)              { return nil, s.err }
func (s shut) Addresses() ([]vip.Address, error)       { return nil, s.err }
func (s shut) Add(vip.Address) error                   { return s.err }
func (s shut) Refresh(vip.Address) error               { return s.err }
func (s shut) Delete(vip.Address) error                { return s.err }
func (s shut) Watch() (<-chan struct{}, func(), error) { return nil, nil, s.err }

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
	list := []prometheus.Collector{b.nat.Collector(), b.checks.Collector(), b.daemon.Collector()}
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
