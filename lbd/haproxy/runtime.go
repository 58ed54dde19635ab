package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"hostmesh/lbd/plan"
)

// finish is the signal that lets HAProxy end with its last connection.
const finish = syscall.SIGUSR1

// adjust makes the servers of the process those of services, by commands: what is there is looked at, and what differs is changed.
func (b *Balancer) adjust(ctx context.Context, services []*plan.Service) error {
	have, err := servers(ctx, b.now.socket)
	if err != nil {
		return err
	}
	changes := adjustments(have, services)
	b.left = false
	for _, c := range changes {
		err := follow(ctx, b.now.socket, c.text, "New server registered", "Server deleted")
		switch {
		case err == nil:
			b.counts.changes++
		case c.may && errors.Is(err, ErrCommand):
			b.left = true // it has connections still; tend comes again
		default:
			return err
		}
	}
	if len(changes) > 0 {
		b.log.Info("haproxy's servers were changed", "commands", len(changes))
	}
	return nil
}

// change is a command.
type change struct {
	text string
	may  bool // it may be refused for now
}

// adjustments are the commands that lead from servers to services. A server that
// goes is put in maintenance, its connections are cut (its time to drain is over), and it is deleted; one that is out because
// somebody wants it so is cut off as well. Connections to one that only fails its checks are left alone: it may be wrong.
func adjustments(have []server, services []*plan.Service) (out []change) {
	type key struct {
		backend string
		addr    netip.Addr
	}
	old := make(map[key]server, len(have))
	for _, s := range have {
		old[key{s.backend, s.addr}] = s
	}
	say := func(format string, args ...any) { out = append(out, change{text: fmt.Sprintf(format, args...)}) }
	for _, s := range services {
		addrs := make([]netip.Addr, 0, len(s.Backends))
		for i := range s.Backends {
			addrs = append(addrs, s.Backends[i].Addr)
		}
		ids := serverIDs(addrs)
		for _, f := range s.Ports {
			backend := "b." + proxyID(s.Tag, f.Port)
			for i := range s.Backends {
				x := &s.Backends[i]
				k := key{backend, x.Addr}
				name := backend + "/" + x.Addr.String()
				was, known := old[k]
				delete(old, k)
				if !known {
					say("add server %s %s id %d", name, netip.AddrPortFrom(x.Addr, f.To), ids[x.Addr])
					was.mode = maint
				}
				want := modeOf(x.State)
				switch {
				case was.mode == want, was.mode == maint && want == drain: // it has no connections that could drain
				default:
					say("set server %s state %s", name, want)
					if want == maint && intended(x) {
						say("shutdown sessions server %s", name)
					}
				}
			}
		}
	}
	gone := slices.Collect(maps.Keys(old))
	slices.SortFunc(gone, func(a, b key) int {
		if c := strings.Compare(a.backend, b.backend); c != 0 {
			return c
		}
		return a.addr.Compare(b.addr)
	})
	for _, k := range gone {
		name := k.backend + "/" + k.addr.String()
		if old[k].mode != maint {
			say("set server %s state maint", name)
		}
		say("shutdown sessions server %s", name)
		out = append(out, change{text: "del server " + name, may: true})
	}
	return out
}

// intended reports whether a backend is out because somebody wants it so.
func intended(x *plan.Backend) bool {
	switch x.Cause {
	case plan.Gone, plan.Retired, plan.Maintenance, plan.Moved, plan.Drained:
		return true
	}
	return false
}

func modeOf(s plan.State) mode {
	switch s {
	case plan.In:
		return ready
	case plan.Draining:
		return drain
	}
	return maint
}

// Stats are the counters of the process that runs: first each port, then each of its servers. A reload begins them anew, and what
// an old process still counts is not in them.
func (b *Balancer) Stats(ctx context.Context) ([]Stat, error) {
	seen := b.seen.Load()
	if seen.now == nil {
		return nil, nil
	}
	answer, err := ask(ctx, seen.now.socket, "show stat")
	if err != nil {
		return nil, err
	}
	rows, err := readStats(answer)
	if err != nil {
		return nil, err
	}
	return named(rows, seen.want), nil
}

// named gives counters the names that services have in HostDB.
func named(rows []statRow, services []*plan.Service) []Stat {
	type port struct {
		s    *plan.Service
		port uint16
	}
	by := map[string]port{}
	for _, s := range services {
		for _, f := range s.Ports {
			by[proxyID(s.Tag, f.Port)] = port{s, f.Port}
		}
	}
	var out []Stat
	for _, r := range rows {
		front := r.server == "FRONTEND"
		if r.server == "BACKEND" || len(r.proxy) < 2 || front != strings.HasPrefix(r.proxy, "f.") {
			continue
		}
		p, ok := by[r.proxy[2:]]
		if !ok {
			continue
		}
		stat := r.Stat
		stat.Tag, stat.Port = p.s.Tag, p.port
		if !front {
			addr, err := netip.ParseAddr(r.server)
			i := slices.IndexFunc(p.s.Backends, func(x plan.Backend) bool { return x.Addr == addr })
			if err != nil || i < 0 {
				continue
			}
			stat.Addr, stat.Host = addr, p.s.Backends[i].Host
		}
		out = append(out, stat)
	}
	return out
}

// Status is how HAProxy does, for people.
type Status struct {
	Pid       int               `json:"pid,omitempty"` // 0 = it does not run
	Since     time.Time         `json:"since,omitzero"`
	Services  []string          `json:"services,omitempty"` // tags that it carries
	Refused   map[string]string `json:"refused,omitempty"`  // tag -> why
	Finishing int               `json:"finishing,omitempty"`
	Next      time.Time         `json:"next_try,omitzero"` // of a start, where it does not run
}

// snapshot is what is shown while HAProxy may be being changed.
type snapshot struct {
	Status
	now    *process
	want   []*plan.Service
	counts counts
}

// publish shows the state of b to Status, Stats and metrics.
func (b *Balancer) publish() {
	s := &snapshot{Status: Status{Finishing: len(b.old)}, now: b.now, want: b.want, counts: b.counts}
	for _, x := range b.want {
		s.Services = append(s.Services, x.Tag)
	}
	if len(b.refused) > 0 {
		s.Refused = make(map[string]string, len(b.refused))
	}
	for tag, err := range b.refused {
		s.Refused[tag] = err.Error()
	}
	switch {
	case b.now != nil:
		s.Pid, s.Since = b.now.pid, b.now.began
	case len(b.want) > 0:
		s.Next = b.retry
	}
	b.seen.Store(s)
}

// Status is it at the moment. It does not wait for a change that goes on.
func (b *Balancer) Status() Status {
	s := b.seen.Load()
	out := s.Status
	if s.now != nil && !s.now.alive() {
		out.Pid, out.Since = 0, time.Time{}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
