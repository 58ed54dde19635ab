package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hostmesh/integration/dutybox"
	"hostmesh/integration/wires"
	hostmesh "hostmesh/mesh"
	"hostmesh/mesh/lease"
)

// leases are some processes that have nothing of an agent but the mesh and the leases, on loopback.
type leases struct {
	b   *bench
	dir string
	id  string // of the mesh
	act time.Duration
	all []*leaseAgent

	mu   sync.Mutex // guards acts
	acts map[string]map[uint64]*acted
}

type leaseAgent struct {
	cfg    dutybox.Config
	mark   net.PacketConn
	starts int
	proc   *dutybox.Process // nil while it is dead

	mu    sync.Mutex // guards state
	state dutybox.State
}

// acted is what the holder of a duty under one number did.
type acted struct {
	agent    int
	from, to time.Duration // its first and last act, on dutybox.Now
}

func nodeID(i int) string { return fmt.Sprintf("%032x", 0xbe0c0000+i) }

// newLeases starts n agents, the first of which founds the group. act is how often they act on what they hold; 0 = they do not, and
// report nothing.
func (b *bench) newLeases(n int, act time.Duration) (_ *leases, err error) {
	l := &leases{b: b, id: nodeID(1 << 16), act: act, acts: map[string]map[uint64]*acted{}}
	if l.dir, err = os.MkdirTemp(b.dir, "l"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	key, err := hostmesh.NewKey()
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(l.dir, "mesh.key")
	if err := os.WriteFile(keyFile, key.Text(), 0o600); err != nil {
		return nil, err
	}
	times := lease.DefaultTimes()
	times.Stable = 2 * time.Second // who votes is not what is measured
	for i := range n {
		addr, mark, err := loopback()
		if err != nil {
			return nil, err
		}
		a := &leaseAgent{mark: mark, cfg: dutybox.Config{
			NodeID: nodeID(i), Name: fmt.Sprintf("node%d", i+1), MeshID: l.id, KeyFile: keyFile, Addr: addr, Datacenter: "dc1", Rack: fmt.Sprintf("r%d", i%3),
			Dir: filepath.Join(l.dir, fmt.Sprintf("node%d", i+1)), Found: i == 0, Times: times, Act: act,
		}}
		if act > 0 {
			a.cfg.Report = 20 * time.Millisecond
		}
		if i > 0 {
			a.cfg.Join = []string{l.all[0].cfg.Addr}
		}
		l.all = append(l.all, a)
	}
	for i := 1; i < n && i <= 3; i++ { // the first one may come back too
		l.all[0].cfg.Join = append(l.all[0].cfg.Join, l.all[i].cfg.Addr)
	}
	for i := range l.all {
		if err := l.start(i); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *leases) start(i int) error {
	a := l.all[i]
	a.starts++
	a.cfg.Incarnation = a.starts
	log, err := os.OpenFile(filepath.Join(l.dir, a.cfg.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(l.b.self, "-child", "lease")
	cmd.Stderr = log
	a.mu.Lock()
	a.state = dutybox.State{}
	a.mu.Unlock()
	a.proc, err = dutybox.Start(cmd, a.cfg, func(e dutybox.Event) { l.hear(i, e) })
	return err
}

func (l *leases) hear(i int, e dutybox.Event) {
	if e.State != nil {
		a := l.all[i]
		a.mu.Lock()
		a.state = *e.State
		a.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range e.Acts {
		if l.acts[x.Duty] == nil {
			l.acts[x.Duty] = map[uint64]*acted{}
		}
		t := l.acts[x.Duty][x.Fence]
		if t == nil {
			t = &acted{agent: i, from: x.From}
			l.acts[x.Duty][x.Fence] = t
		}
		t.to = x.To
	}
}

func (l *leases) close() {
	var wg sync.WaitGroup
	for _, a := range l.all {
		if a.proc != nil {
			wg.Go(a.proc.Kill)
		}
	}
	wg.Wait()
	for _, a := range l.all {
		_ = a.mark.Close()
	}
	_ = os.RemoveAll(l.dir)
}

// do has one agent carry out a command; -1 = any that lives.
func (l *leases) do(ctx context.Context, i int, cmd dutybox.Command) (dutybox.Event, error) {
	if i < 0 {
		i = slices.IndexFunc(l.all, func(a *leaseAgent) bool { return a.proc != nil })
	}
	limit := 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd.Until = time.Now().Add(limit)
	return l.all[i].proc.Do(ctx, cmd)
}

// voting waits until there are so many voters, and tells who they are and who leads.
func (l *leases) voting(ctx context.Context, n int) (voters []int, leader int, err error) {
	err = until(ctx, 2*time.Minute, 100*time.Millisecond, fmt.Sprintf("%d voters", n), func() (bool, error) {
		e, err := l.do(ctx, -1, dutybox.Command{Voters: true})
		if err != nil {
			return false, nil // nobody leads yet
		}
		voters = nil
		for _, s := range e.Voters.Servers {
			if s.Voter {
				voters = append(voters, l.index(s.Node))
			}
		}
		leader = l.index(e.Voters.Leader)
		return len(voters) == n && len(e.Voters.Servers) == n, nil
	})
	return voters, leader, err
}

func (l *leases) index(node string) int {
	return slices.IndexFunc(l.all, func(a *leaseAgent) bool { return a.cfg.NodeID == node })
}

// holder is who acted for a duty last, and under which number.
func (l *leases) holder(duty string) (i int, fence uint64, t acted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f, x := range l.acts[duty] {
		if f >= fence {
			i, fence, t = x.agent, f, *x
		}
	}
	return i, fence, t
}

// after waits for the first act under a higher number.
func (l *leases) after(ctx context.Context, duty string, fence uint64) (next acted, err error) {
	err = until(ctx, 60*time.Second, 5*time.Millisecond, "the next holder acts", func() (bool, error) {
		_, f, t := l.holder(duty)
		next = t
		return f > fence, nil
	})
	return next, err
}

// settled waits until all agents live, are known, and would take the duty.
func (l *leases) settled(ctx context.Context, duty string) error {
	return until(ctx, 60*time.Second, 50*time.Millisecond, "all are candidates", func() (bool, error) {
		e, err := l.do(ctx, -1, dutybox.Command{Duties: true})
		if err != nil {
			return false, nil
		}
		for _, d := range e.Duties {
			if d.Duty == duty {
				return d.Candidates == len(l.all) && d.Node != "" && d.Over == "", nil
			}
		}
		return false, nil
	})
}

const benchDuty = "bench"

// takeover measures how long a duty is without a holder: when the holder dies, when the leader dies with it, and when a person moves it.
func (b *bench) takeover(ctx context.Context) error {
	l, err := b.newLeases(5, time.Millisecond)
	if err != nil {
		return err
	}
	defer l.close()
	if _, _, err := l.voting(ctx, 3); err != nil {
		return err
	}
	for i := range l.all {
		if _, err := l.do(ctx, i, dutybox.Command{Campaign: []string{benchDuty}}); err != nil {
			return err
		}
	}
	rng := rand.New(rand.NewPCG(5, 5))
	place := func(avoid ...int) (holder int, fence uint64, gap time.Duration, err error) {
		for {
			if err = l.settled(ctx, benchDuty); err != nil {
				return 0, 0, 0, err
			}
			if err := pause(ctx, 200*time.Millisecond+time.Duration(rng.IntN(500))*time.Millisecond); err != nil { // not in step with anybody's timer
				return 0, 0, 0, err
			}
			from, fence, _ := l.holder(benchDuty)
			to := rng.IntN(len(l.all))
			if to == from || slices.Contains(avoid, to) {
				continue
			}
			if _, err := l.do(ctx, -1, dutybox.Command{Move: &dutybox.Move{Duty: benchDuty, Node: nodeID(to)}}); err != nil {
				return 0, 0, 0, err
			}
			next, err := l.after(ctx, benchDuty, fence)
			if err != nil {
				return 0, 0, 0, err
			}
			l.mu.Lock()
			gap = next.from - l.acts[benchDuty][fence].to // the old holder's last report came before the next one began
			l.mu.Unlock()
			holder, fence, _ = l.holder(benchDuty)
			return holder, fence, gap, pause(ctx, 100*time.Millisecond) // it acts, and so it is heard
		}
	}
	var moved []time.Duration
	for range b.count(20, 5) {
		_, _, gap, err := place()
		if err != nil {
			return err
		}
		moved = append(moved, gap)
	}
	taken := map[bool][]time.Duration{}
	for _, both := range []bool{false, true} {
		n := b.count(10, 3)
		if both {
			n = b.count(5, 2)
		}
		for range n {
			voters, leader, err := l.voting(ctx, 3)
			if err != nil {
				return err
			}
			avoid := []int{leader}
			if both {
				avoid = voters // a majority must live
			}
			at, fence, _, err := place(avoid...)
			if err != nil {
				return err
			}
			victims := []int{at}
			if both {
				victims = append(victims, leader)
			}
			killed := dutybox.Now()
			for _, v := range victims {
				l.all[v].proc.Kill()
				l.all[v].proc = nil
			}
			next, err := l.after(ctx, benchDuty, fence)
			if err != nil {
				return err
			}
			taken[both] = append(taken[both], next.from-killed)
			for _, v := range victims {
				if err := l.start(v); err != nil {
					return err
				}
				if _, err := l.do(ctx, v, dutybox.Command{Campaign: []string{benchDuty}}); err != nil {
					return err
				}
			}
		}
	}
	worst := func(list []time.Duration) time.Duration { return slices.Max(list) }
	text := func(list []time.Duration) string {
		return fmt.Sprintf("median %s, worst %s (n=%d)", ms(median(list)), ms(worst(list)), len(list))
	}
	b.table.add(row{
		what: "duty: holder killed, leader alive -> next acts", measured: text(taken[false]), budget: "median < 3 s", met: when(median(taken[false]) < 3*time.Second),
	})
	b.table.add(row{
		what: "duty: holder and leader killed -> next acts", measured: text(taken[true]), budget: "worst < 5 s", met: when(worst(taken[true]) < 5*time.Second),
	})
	b.table.add(row{
		what: "duty: moved, old's last act -> new's first", measured: text(moved), budget: "< 100 ms", met: when(worst(moved) < 100*time.Millisecond),
	})
	b.table.note("duty: five processes with three voters; holders act every millisecond, and all read one clock.")
	return nil
}

// dutiesAtRest measures what 1,000 duties over 60 agents take when nothing happens.
func (b *bench) dutiesAtRest(ctx context.Context) error {
	agents, duties := b.count(60, 12), b.count(1000, 100)
	const offers = 6 // agents that offer themselves for a duty
	alone := "in a network namespace of their own"
	measure := func() error {
		l, err := b.newLeases(agents, 0)
		if err != nil {
			return err
		}
		defer l.close()
		voters := 3
		if agents >= 7 {
			voters = 5
		}
		_, leader, err := l.voting(ctx, voters)
		if err != nil {
			return err
		}
		idle, err := l.atRest(ctx)
		if err != nil {
			return err
		}
		mine := make([][]string, agents)
		for d := range duties {
			for k := range offers {
				at := (d*7 + k*11) % agents
				if !slices.Contains(mine[at], fmt.Sprintf("duty%d", d)) {
					mine[at] = append(mine[at], fmt.Sprintf("duty%d", d))
				}
			}
		}
		for i := range l.all {
			if _, err := l.do(ctx, i, dutybox.Command{Campaign: mine[i]}); err != nil {
				return err
			}
		}
		err = until(ctx, 4*time.Minute, time.Second, "all duties have holders that stay", func() (bool, error) {
			e, err := l.do(ctx, leader, dutybox.Command{Duties: true})
			if err != nil {
				return false, nil
			}
			held := 0
			for _, d := range e.Duties {
				if d.Node != "" && d.Over == "" {
					held++
				}
			}
			return held == duties, nil
		})
		if err != nil {
			return err
		}
		busy, err := l.atRest(ctx)
		if err != nil {
			return err
		}
		if _, leads, err := l.voting(ctx, voters); err != nil || leads != leader {
			b.table.note("duties at rest: the leader changed meanwhile (%v).", err)
		}
		b.table.add(row{
			what:     fmt.Sprintf("%d duties over %d agents at rest: CPU", duties, agents),
			measured: fmt.Sprintf("%.2f %% of a core each, %.1f %% all", 100*busy.all/float64(agents), 100*busy.all),
			peer:     fmt.Sprintf("%.2f x without duties (%.2f %% each); leader %.2f %%", busy.all/idle.all, 100*idle.all/float64(agents), 100*busy.each[leader]),
		})
		b.table.add(row{
			what:     "their bytes",
			measured: fmt.Sprintf("%.2f kB/s each, %.0f kB/s all", busy.bytes/1000/float64(agents), busy.bytes/1000),
			peer:     fmt.Sprintf("%.2f x without duties (%.2f kB/s each)", busy.bytes/idle.bytes, idle.bytes/1000/float64(agents)),
		})
		b.table.note("duties at rest: each duty is offered by %d agents, which have mesh and leases only; what gossip takes is in all figures, and bytes are "+
			"those sent, with all headers. They ran %s.", offers, alone)
		return nil
	}
	if os.Getuid() == 0 {
		return wires.Alone(measure)
	}
	alone = "on the machine's loopback, whose other traffic is in the bytes: as root they have one of their own"
	return measure()
}

// resting is what agents take, per second.
type resting struct {
	each  []float64 // cores
	all   float64   // cores
	bytes float64   // sent by all
}

// atRest waits until the agents are quiet, and measures what they take. It must run in their network.
func (l *leases) atRest(ctx context.Context) (out resting, err error) {
	if err := pause(ctx, l.b.pick(15*time.Second, 3*time.Second)); err != nil { // a new leader may hand over what it has
		return out, err
	}
	var pids []int
	for _, a := range l.all {
		pids = append(pids, a.proc.Pid())
	}
	before, err := cpuTimes(pids)
	if err != nil {
		return out, err
	}
	sent, err := loopbackBytes()
	if err != nil {
		return out, err
	}
	began := time.Now()
	if err := pause(ctx, l.b.pick(30*time.Second, 5*time.Second)); err != nil {
		return out, err
	}
	length := time.Since(began).Seconds()
	after, err := cpuTimes(pids)
	if err != nil {
		return out, err
	}
	more, err := loopbackBytes()
	if err != nil {
		return out, err
	}
	for i := range pids {
		out.each = append(out.each, (after[i]-before[i]).Seconds()/length)
		out.all += out.each[i]
	}
	out.bytes = float64(more-sent) / length
	return out, nil
}

func cpuTimes(pids []int) (out []time.Duration, err error) {
	for _, pid := range pids {
		d, err := cpuTime(pid)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// loopbackBytes is what this thread's network sent over loopback so far.
func loopbackBytes() (int64, error) {
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "lo" {
			if f := strings.Fields(rest); len(f) > 8 {
				return strconv.ParseInt(f[8], 10, 64)
			}
		}
	}
	return 0, errors.New("/proc/thread-self/net/dev has no lo")
}
