package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	redialMin     = 500 * time.Millisecond
	redialAtOnce  = 16 // attempts under way
	redialPerHost = 32 // this many absent members are each dialled every RedialMax; more are dialled more rarely
	learnMax      = 10 * time.Second
)

// target is somebody to dial: a known member, or a join address.
type target struct {
	id    string // of a member, or ""
	join  string // a join address, or ""
	fails int
	next  time.Time
	busy  bool
	addrs []netip.AddrPort // join: what the name meant last; gossip ports
}

// redialer dials every known member that is away, and every join address behind which nobody is alive, for ever.
type redialer struct {
	m       *Mesh
	serf    *serf.Serf
	targets map[string]*target
	done    chan attempt
	busy    int
}

type attempt struct {
	t     *target
	addrs []netip.AddrPort
	err   error
}

// redial runs until ctx ends.
func (m *Mesh) redial(ctx context.Context, s *serf.Serf) {
	r := &redialer{m: m, serf: s, targets: make(map[string]*target), done: make(chan attempt)}
	for _, j := range m.cfg.Join {
		r.targets["join "+j] = &target{join: j}
	}
	for {
		wait := r.launch(ctx)
		select {
		case <-ctx.Done():
			for ; r.busy > 0; r.busy-- {
				<-r.done
			}
			return
		case a := <-r.done:
			r.settle(a)
		case <-m.redialPoke:
		case <-m.cfg.Clock.After(wait):
		}
	}
}

// launch starts the attempts that are due, and returns how long the next one may wait.
func (r *redialer) launch(ctx context.Context) time.Duration {
	view, now := r.m.View(), r.m.cfg.Clock.Now()
	alive := make(map[netip.AddrPort]bool)
	for x := range view.Alive() {
		alive[x.Gossip()] = true
	}
	for _, x := range view.Members() {
		key := "node " + x.ID
		t := r.targets[key]
		switch {
		case x.Self:
		case x.State == StateAlive || alive[x.Gossip()]:
			// It is there, or another node has its address: a box that was set up anew.
			if t != nil && !t.busy {
				delete(r.targets, key)
			}
		case t == nil:
			// One that was just lost is not dialled at once: mostly it restarts.
			next := now
			if x.State != StateUnknown {
				next = now.Add(redialMin + rand.N(redialMin))
			}
			r.targets[key] = &target{id: x.ID, next: next}
		}
	}
	wait := time.Hour
	for key, t := range r.targets {
		if t.busy {
			continue
		}
		var addrs []netip.AddrPort
		if t.id != "" {
			x, ok := view.Get(t.id)
			if !ok { // removed
				delete(r.targets, key)
				continue
			}
			addrs = []netip.AddrPort{x.Gossip()}
		} else if anyOf(alive, t.addrs) {
			t.fails, t.next = 0, now.Add(r.m.cfg.RedialMax)
			continue
		}
		if d := t.next.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if r.busy >= redialAtOnce {
			continue // a free place wakes the loop
		}
		t.busy = true
		r.busy++
		go func() {
			addrs, err := addrs, error(nil)
			if t.join != "" {
				addrs, err = r.m.resolve(ctx, t.join)
			}
			if err == nil {
				err = r.try(ctx, t, addrs)
			}
			r.done <- attempt{t, addrs, err}
		}()
	}
	return wait
}

func anyOf(alive map[netip.AddrPort]bool, addrs []netip.AddrPort) bool {
	for _, a := range addrs {
		if alive[a] {
			return true
		}
	}
	return false
}

// settle notes how an attempt ended.
func (r *redialer) settle(a attempt) {
	r.busy--
	t := a.t
	t.busy = false
	if t.join != "" && a.addrs != nil {
		t.addrs = a.addrs
	}
	t.fails++
	// Many absent members are dialled more rarely: one that answers brings all it knows.
	most := r.m.cfg.RedialMax * time.Duration(1+len(r.targets)/redialPerHost)
	d := min(redialMin<<min(t.fails, 20), most)
	t.next = r.m.cfg.Clock.Now().Add(d/2 + rand.N(d/2))
	if a.err != nil {
		r.m.log.Debug("member or join address does not answer", "node", t.id, "addr", t.join, "attempt", t.fails, "err", a.err)
	}
}

// try joins through the first address that lets us in.
func (r *redialer) try(ctx context.Context, t *target, addrs []netip.AddrPort) error {
	var errs []error
	for _, gossip := range addrs {
		if gossip == r.m.self().Gossip() {
			continue
		}
		stream := r.m.streamOf(gossip)
		if x, ok := r.m.View().Get(t.id); ok {
			stream = x.Stream()
		}
		// The greeting tells a wrong key and another mesh from a dead box, which gossip cannot. Where only the stream port
		// is closed gossip alone must do.
		c, _, err := r.m.streams.greet(ctx, stream, "", ordinary)
		if err == nil {
			c.close(errIdle)
		} else if !errors.Is(err, ErrUnreachable) {
			errs = append(errs, err)
			continue
		} else if perr := r.m.probeGossip(ctx, gossip); perr != nil {
			errs = append(errs, err)
			continue
		}
		// Join holds a lock of serf's while it runs, hence the probes before: nobody waits for the timeouts of the dead.
		if _, err := r.serf.Join([]string{gossip.String()}, true); err != nil {
			errs = append(errs, fmt.Errorf("join %s: %w", gossip, err))
			continue
		}
		return nil
	}
	return errors.Join(errs...)
}

// probeGossip reports whether a gossip port takes connections. The label makes memberlist end it without a complaint.
func (m *Mesh) probeGossip(ctx context.Context, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	defer cancel()
	c, err := m.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return memberlist.AddLabelHeaderToStream(c, m.label)
}

// streamOf guesses the stream port that goes with a gossip port of which nothing else is known.
func (m *Mesh) streamOf(gossip netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(gossip.Addr(), gossip.Port()+m.cfg.StreamPort-m.cfg.GossipPort)
}

// resolve looks a join address up: the gossip addresses it stands for.
func (m *Mesh) resolve(ctx context.Context, join string) ([]netip.AddrPort, error) {
	host, port, err := splitJoin(join, m.joinPort)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	defer cancel()
	ips, err := m.cfg.Network.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve join address %s: %w", join, err)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return addrs, nil
}

// splitJoin takes host, host:port, an address of either family, or [v6]:port.
func splitJoin(join string, port uint16) (string, uint16, error) {
	if ip, err := netip.ParseAddr(join); err == nil {
		return ip.String(), port, nil
	}
	host := join
	if strings.Contains(join, ":") {
		h, p, err := net.SplitHostPort(join)
		if err != nil {
			return "", 0, fmt.Errorf("join address %q: want host or host:port: %w", join, err)
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("join address %q: port %q is not a number from 1 to 65535", join, p)
		}
		host, port = h, uint16(n)
	}
	if host == "" || strings.ContainsAny(host, " \t/") {
		return "", 0, fmt.Errorf("join address %q: want host or host:port", join)
	}
	return host, port, nil
}

// learn asks the join addresses for the mesh's id until one answers or ctx ends.
func (m *Mesh) learn(ctx context.Context) (string, error) {
	var said time.Time
	for try := 0; ; try++ {
		var errs []error
		for _, join := range m.cfg.Join {
			addrs, err := m.resolve(ctx, join)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, gossip := range addrs {
				if gossip == m.self().Gossip() {
					errs = append(errs, fmt.Errorf("join address %s is this node's own", join))
					continue
				}
				c, h, err := m.streams.greet(ctx, m.streamOf(gossip), "", ordinary)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				c.close(errIdle)
				m.log.Info("learned the mesh", "mesh", h.meshID, "peer", h.nodeID, "addr", gossip.String())
				return h.meshID, nil
			}
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if now := m.cfg.Clock.Now(); said.IsZero() || now.Sub(said) >= time.Minute {
			said = now
			m.log.Warn("no join address answers yet; trying on", "join", strings.Join(m.cfg.Join, ","), "err", errors.Join(errs...))
		}
		d := min(redialMin<<min(try, 10), learnMax)
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-m.cfg.Clock.After(d/2 + rand.N(d/2)):
		}
	}
}
