package lbd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"hostmesh/lbd/plan"
	"hostmesh/lbd/vip"
)

// fitness is what this box can do, as of its last look. It is immutable.
type fitness struct {
	cfg         *Config
	addresses   string // why it can hold no address at all
	removes     bool   // it may remove addresses all the same
	nat, proxy  string // why it cannot divide
	home, known bool
	links       map[netip.Addr]link
	tried       time.Time // when addresses, nat and proxy were asked for
}

// What a box can do is tried again, because rights, modules and programs come and go; where all is well that is done rarely, because it is
// not free.
const (
	tryAgain = time.Minute
	trySoon  = 10 * time.Second
)

// link is where an address would be.
type link struct{ name, why string }

func newFitness(cfg Config) fitness { return fitness{cfg: &cfg} }

// covers reports whether it was looked at all of these addresses.
func (f fitness) covers(vips []plan.VIP) bool {
	for _, v := range vips {
		if _, looked := f.links[v.Addr]; !looked {
			return false
		}
	}
	return true
}

// look asks the box.
func (f fitness) look(vips []plan.VIP, now time.Time) fitness {
	next := f
	next.links = make(map[netip.Addr]link, len(vips))
	if f.cfg.Lease != nil {
		next.home, next.known = f.cfg.Lease.Home()
	}
	if len(vips) == 0 {
		return next
	}
	well := f.addresses == "" && f.nat == "" && f.proxy == ""
	if age := now.Sub(f.tried); !f.cfg.Observe && (f.tried.IsZero() || age > tryAgain || !well && age > trySoon) {
		err := f.cfg.Addresses.Check()
		next.addresses, next.removes, next.tried = textOf(err), err == nil || errors.Is(err, vip.ErrUnread), now
		next.nat, next.proxy = textOf(f.cfg.NAT.Check()), textOf(f.cfg.Proxy.Check())
	}
	for _, v := range vips {
		name, err := f.cfg.Addresses.InterfaceFor(v.Addr, v.CIDR.Bits())
		next.links[v.Addr] = link{name, textOf(err)}
	}
	return next
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// why is why this node cannot hold an address; "" = it can.
func (f fitness) why(v plan.VIP) string {
	switch {
	case f.cfg.Unfit != "":
		return f.cfg.Unfit
	case f.cfg.Lease == nil:
		return "this agent takes no part in duties"
	case v.Datacenter != "" && v.Datacenter != f.cfg.Datacenter:
		return fmt.Sprintf("this node is in datacenter %q, and tags/%s in %q", f.cfg.Datacenter, v.Subnet, v.Datacenter)
	case v.Datacenter == "" && !f.known:
		return "the group that grants duties is not known yet"
	case v.Datacenter == "" && !f.home:
		return fmt.Sprintf("tags/%s has no Subnet/Datacenter, so its addresses are held in the home datacenter: say where it is", v.Subnet)
	}
	if lacks := f.lacks(v); lacks != "" {
		return lacks
	}
	if l, looked := f.links[v.Addr]; !looked {
		return "this box was not looked at yet"
	} else if l.why != "" {
		return l.why
	}
	return ""
}

// lacks is what of rights, of the kernel and of programs this box lacks for an address; "" = nothing.
func (f fitness) lacks(v plan.VIP) string {
	switch {
	case f.addresses != "":
		return f.addresses
	case v.NAT && f.nat != "":
		return f.nat
	case v.HAProxy && f.proxy != "":
		return f.proxy
	}
	return ""
}

// fitLink is the interface for an address; "" = let it be found.
func (d *Daemon) fitLink(v plan.VIP) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fit.links[v.Addr].name
}
