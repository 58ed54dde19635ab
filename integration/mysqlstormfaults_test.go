package integration

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"hostmesh/node/api"
)

// stormFault is one way to break something, or something that people do. It lasts from least to most.
type stormFault struct {
	name        string
	least, most time.Duration
	// begin does it, and says what; "" = that is not possible now. heal undoes it; nil = there is nothing to undo.
	begin func(x *storm, rng *rand.Rand) (what string, heal func())
}

func (x *storm) faults() []stormFault {
	const s = time.Second
	primary := func(x *storm, _ *rand.Rand) string { return x.primary }
	replica := func(x *storm, rng *rand.Rand) string { return pick(rng, x.replicas(x.primary)) }
	anyBox := func(x *storm, rng *rand.Rand) string { return pick(rng, x.boxes).name }
	watcher := func(x *storm, rng *rand.Rand) string {
		if w := x.seen.Watcher; w != nil {
			return w.Name
		}
		return pick(rng, x.boxes).name
	}
	leader := func(x *storm, rng *rand.Rand) (name string) {
		_ = x.orders(func(ctx context.Context, b *box) error {
			v, err := b.api.DutyVoters(ctx)
			if err == nil && v.LeaderName == "" {
				err = errors.New("nobody leads")
			}
			name = v.LeaderName
			return err
		})
		return name
	}
	all := []stormFault{
		{"primary's server killed", 2 * s, 6 * s, killed(primary)},
		{"primary's server stopped", 3 * s, 15 * s, stands(primary)},
		{"replica's server killed", 2 * s, 6 * s, killed(replica)},
		{"replica's server stopped", 3 * s, 20 * s, stands(replica)},
		{"all replicas stopped", 3 * s, 12 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			var whats []string
			var heals []func()
			for _, h := range x.replicas(x.primary) {
				if what, heal := stands(func(*storm, *rand.Rand) string { return h })(x, rng); what != "" {
					whats, heals = append(whats, what), append(heals, heal)
				}
			}
			return strings.Join(whats, ", "), func() {
				for _, heal := range heals {
					heal()
				}
			}
		}},
		{"all servers killed", 2 * s, 6 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			if x.burnt {
				return "", nil
			}
			for _, h := range x.members {
				x.killsServer(h)
			}
			return "the servers of all members are killed", nil
		}},
		{"primary's agent killed", 3 * s, 12 * s, agentKilled(primary)},
		{"watcher killed", 3 * s, 12 * s, agentKilled(watcher)},
		{"leader of the leases killed", 3 * s, 12 * s, agentKilled(leader)},
		{"an agent killed", 3 * s, 12 * s, agentKilled(anyBox)},
		{"watcher stopped", 2 * s, 15 * s, agentStands(watcher)},
		{"an agent stopped", 2 * s, 15 * s, agentStands(anyBox)},
		{"an agent restarted", 1 * s, 5 * s, agentEnds(anyBox)},
		{"primary's host dies", 4 * s, 15 * s, hostDies(primary)},
		{"replica's host dies", 4 * s, 15 * s, hostDies(replica)},
		{"all members' hosts die", 4 * s, 10 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			if x.burnt {
				return "", nil
			}
			var names []string
			for _, h := range x.members {
				if x.takesHold("agent " + h) {
					x.box(h).kill()
					x.killsServer(h)
					names = append(names, h)
				}
			}
			rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			return fmt.Sprintf("the agents and servers of all members are killed, to come back as %v", names), func() {
				for _, h := range names {
					x.startsAgent(h)
					time.Sleep(time.Duration(rng.Int64N(int64(2 * s))))
				}
			}
		}},
		{"primary's disk replaced", 4 * s, 15 * s, diskReplaced(primary)},
		{"replica's disk replaced", 4 * s, 15 * s, diskReplaced(replica)},
		{"primary's link down", 4 * s, 15 * s, linkDown(primary)},
		{"a link down", 4 * s, 15 * s, linkDown(anyBox)},
		{"primary's packets lost one way", 4 * s, 12 * s, oneWay(primary)},
		{"packets lost one way", 4 * s, 12 * s, oneWay(anyBox)},
		{"some packets lost", 4 * s, 12 * s, lossy(anyBox)},
		{"slow link", 4 * s, 12 * s, slow(anyBox)},
		{"partition", 4 * s, 15 * s, partition(false)},
		{"partition, clients with few", 4 * s, 15 * s, partition(true)},
		{"watcher cut off", 4 * s, 12 * s, linkDown(watcher)},
		{"applying thread stopped", 2 * s, 6 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			h := replica(x, rng)
			go func() { // it may be stopped itself
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if err := x.dbs[h].TryExec(ctx, "STOP SLAVE SQL_THREAD"); err != nil {
					x.beside("stop the applying thread of %s: %v", h, err)
				}
			}()
			return "the applying thread of " + h + " is stopped", nil
		}},
		{"too many connections", 3 * s, 8 * s, crowded},
		{"switchover", 2 * s, 5 * s, switchover(func(x *storm, rng *rand.Rand) string { return "" })},
		{"switchover to a host", 2 * s, 5 * s, switchover(replica)},
		{"failover by hand", 2 * s, 5 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			return x.asked("a failover", func(ctx context.Context, b *box) (api.MySQLDone, error) {
				return b.api.FailoverMySQL(ctx, shopTag, api.MySQLFailover{Log: "soak"})
			})
		}},
		{"member comes or goes", 3 * s, 12 * s, memberMoves},
		{"a copy by hand", 2 * s, 8 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			h := replica(x, rng)
			return x.asked("a copy for "+h, func(ctx context.Context, b *box) (api.MySQLDone, error) {
				return b.api.CloneMySQL(ctx, shopTag, api.MySQLClone{To: h, Log: "soak"})
			})
		}},
		{"paused by hand", 4 * s, 12 * s, func(x *storm, rng *rand.Rand) (string, func()) {
			if x.paused {
				return "", nil
			}
			err := x.orders(func(ctx context.Context, b *box) error {
				_, err := b.api.PauseMySQL(ctx, shopTag, api.MySQLNote{Log: "soak"})
				return err
			})
			x.paused = true
			return fmt.Sprintf("automatic acts are paused (%v)", err), func() {
				if err := x.resume(); err != nil {
					x.say("resume: %v", err)
				}
			}
		}},
	}
	only := regexp.MustCompile(os.Getenv(stormOnly))
	return slices.DeleteFunc(all, func(f stormFault) bool { return !only.MatchString(f.name) })
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// takesHold reports whether a thing is free, and takes it.
func (x *storm) takesHold(thing string) bool {
	if x.held[thing] {
		return false
	}
	x.held[thing] = true
	return true
}

func (x *storm) resume() error {
	err := x.orders(func(ctx context.Context, b *box) error {
		_, err := b.api.ResumeMySQL(ctx, shopTag, api.MySQLNote{Log: "soak"})
		return err
	})
	x.paused = err != nil
	return err
}

// killsServer kills a server, if it runs.
func (x *storm) killsServer(host string) bool {
	pid := x.pid(host)
	if pid == 0 || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return false
	}
	x.killed = true
	return true
}

type who func(x *storm, rng *rand.Rand) string

func killed(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		if x.burnt || !x.killsServer(h) {
			return "", nil
		}
		return "kill -9 of the server of " + h, nil
	}
}

func stands(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		pid := x.pid(h)
		if pid == 0 || !x.takesHold("server "+h) {
			return "", nil
		}
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended this moment
		return "the server of " + h + " is stopped", func() {
			delete(x.held, "server "+h)
			if x.pid(h) == pid { // the agent may have killed it
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}
	}
}

func agentKilled(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		name := of(x, rng)
		if name == "" || !x.takesHold("agent "+name) {
			return "", nil
		}
		x.box(name).kill()
		return "kill -9 of the agent of " + name, func() { x.startsAgent(name) }
	}
}

// startsAgent starts an agent again.
func (x *storm) startsAgent(name string) {
	b := x.box(name)
	b.launch()
	x.starts[b]++
	delete(x.held, "agent "+name)
}

func agentStands(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		name := of(x, rng)
		if name == "" || !x.takesHold("agent "+name) {
			return "", nil
		}
		b := x.box(name)
		b.signal(syscall.SIGSTOP)
		x.frozen[b] = true
		return "the agent of " + name + " is stopped", func() {
			b.signal(syscall.SIGCONT)
			delete(x.frozen, b)
			delete(x.held, "agent "+name)
		}
	}
}

func agentEnds(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		name := of(x, rng)
		if name == "" || !x.takesHold("agent "+name) {
			return "", nil
		}
		b := x.box(name)
		b.signal(syscall.SIGTERM)
		x.frozen[b] = true // it is not asked any more
		return "the agent of " + name + " is ended in order", func() {
			b.gone()
			if code := b.cmd.ProcessState.ExitCode(); code != 0 {
				x.defect("%s ended with %s after SIGTERM", name, b.cmd.ProcessState)
			}
			delete(x.frozen, b)
			x.startsAgent(name)
		}
	}
}

// hostDies is a power cut: the server and the agent of a host end.
func hostDies(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		if x.burnt || !x.takesHold("agent "+h) {
			return "", nil
		}
		x.box(h).kill()
		x.killsServer(h)
		return "the agent and the server of " + h + " are killed", func() { x.startsAgent(h) }
	}
}

// diskReplaced has a host die, and come back with a server that was just installed. Two of them at once would have nobody have what was acknowledged: so it is one of a round. Nor are the primary's data lost in a round in which another
// server is killed: that one alone may have received what was acknowledged last, and a person has to decide.
func diskReplaced(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		lost := h == x.primary
		if x.replaced || lost && x.killed || !x.takesHold("agent "+h) {
			return "", nil
		}
		x.replaced, x.burnt = true, lost
		x.box(h).kill()
		x.killsServer(h)
		x.installs(h, x.fresh)
		return "the agent and the server of " + h + " are killed, and its disk is a new one", func() { x.startsAgent(h) }
	}
}

func (x *storm) wires(tool string, args ...string) {
	x.t.Helper()
	x.must(exec.Command(tool, args...))
}

func linkDown(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		if !x.takesHold("link " + h) {
			return "", nil
		}
		x.wires("ip", "link", "set", "to-"+h, "down")
		return "the link of " + h + " is down", func() {
			x.wires("ip", "link", "set", "to-"+h, "up")
			delete(x.held, "link "+h)
		}
	}
}

// filters has the bridge lose what rules say, until it is healed.
func (x *storm) filters(thing string, rules ...string) (heal func()) {
	if !x.takesHold("packets of " + thing) {
		return nil
	}
	table := "lose-" + thing
	text := fmt.Sprintf("table bridge %s { chain forward { type filter hook forward priority 0; %s; }; }", table, strings.Join(rules, "; "))
	x.wires("nft", text)
	return func() {
		x.wires("nft", "delete", "table", "bridge", table)
		delete(x.held, "packets of "+thing)
	}
}

// oneWay loses what a host sends, or is sent, by all or by one other.
func oneWay(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		from, to, text := "iifname", "oifname", "what "+h+" sends"
		if rng.IntN(2) == 0 {
			from, to, text = to, from, "what "+h+" is sent"
		}
		rule := fmt.Sprintf("%s to-%s", from, h)
		if rng.IntN(2) == 0 {
			others := slices.DeleteFunc(x.names(), func(o string) bool { return o == h })
			peer := pick(rng, others)
			rule += fmt.Sprintf(" %s to-%s", to, peer)
			text += ", from or to " + peer + ","
		}
		heal := x.filters(h, rule+" drop")
		if heal == nil {
			return "", nil
		}
		return text + " is lost", heal
	}
}

func lossy(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		percent := 5 + rng.IntN(36)
		heal := x.filters(h, fmt.Sprintf("iifname to-%s numgen random mod 100 < %d drop", h, percent), fmt.Sprintf("oifname to-%s numgen random mod 100 < %d drop", h, percent))
		if heal == nil {
			return "", nil
		}
		return fmt.Sprintf("%d%% of what %s sends and is sent is lost", percent, h), heal
	}
}

func slow(of who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := of(x, rng)
		if !x.takesHold("speed of " + h) {
			return "", nil
		}
		x.wires("tc", "qdisc", "replace", "dev", "to-"+h, "root", "tbf", "rate", "1mbit", "burst", "16kb", "latency", "300ms")
		return h + " hears at 1 Mbit/s", func() {
			x.wires("tc", "qdisc", "del", "dev", "to-"+h, "root")
			delete(x.held, "speed of "+h)
		}
	}
}

func (x *storm) names() (out []string) {
	for _, b := range x.boxes {
		out = append(out, b.name)
	}
	return out
}

// partition puts one or two hosts on a side of their own, mostly with the primary, with the clients or without.
func partition(clients bool) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		if !x.takesHold("bridge") {
			return "", nil
		}
		list := x.names()
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if rng.IntN(3) < 2 {
			i := slices.Index(list, x.primary)
			list[0], list[i] = list[i], list[0]
		}
		side := list[:1+rng.IntN(2)]
		if clients {
			side = append(slices.Clone(side), "c1")
		}
		x.split("br1", side...)
		return fmt.Sprintf("%v are on a side of their own", side), func() {
			x.split("br0", side...)
			delete(x.held, "bridge")
		}
	}
}

// crowded takes all connections that the primary has.
func crowded(x *storm, rng *rand.Rand) (string, func()) {
	var stop, full atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		var held []driver.Conn
		for !stop.Load() {
			c, err := x.dials(writeVIP, stormDial, stormPatience)
			var said *mysql.MySQLError
			if err == nil {
				held = append(held, c)
				continue
			}
			if errors.As(err, &said) && said.Number == 1040 {
				full.Store(true)
			}
			time.Sleep(20 * time.Millisecond)
		}
		for _, c := range held {
			_ = c.Close()
		}
	})
	return "all connections are taken", func() {
		stop.Store(true)
		wg.Wait()
		x.say("the server had no connection left: %v", full.Load())
	}
}

// asked has an agent do what a person asks for; it may be refused.
func (x *storm) asked(what string, do func(ctx context.Context, b *box) (api.MySQLDone, error)) (string, func()) {
	list := x.able()
	if len(list) == 0 {
		return "", nil
	}
	b := list[len(list)-1]
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	go func() {
		defer close(done)
		began := time.Now()
		out, err := do(ctx, b)
		x.beside("%s, asked for at %s, took %d ms: primary %s %v %v", what, b.name, time.Since(began).Milliseconds(), out.Primary, out.Loss, err)
		if out.Loss != "" {
			x.defect("%s may have lost something: %s", what, out.Loss)
		}
	}()
	return what + " is asked for at " + b.name, func() {
		<-done
		cancel()
	}
}

func switchover(to who) func(*storm, *rand.Rand) (string, func()) {
	return func(x *storm, rng *rand.Rand) (string, func()) {
		h := to(x, rng)
		return x.asked("a switchover to "+h, func(ctx context.Context, b *box) (api.MySQLDone, error) {
			return b.api.SwitchoverMySQL(ctx, shopTag, api.MySQLSwitchover{To: h, Log: "soak"})
		})
	}
}

// memberMoves gives the tag to box4, or takes it away, unless it is the primary.
func memberMoves(x *storm, _ *rand.Rand) (string, func()) {
	const host = "box4"
	if x.primary == host {
		return "", nil
	}
	what := "box4 gets the tag"
	if i := slices.Index(x.members, host); i >= 0 {
		what = "box4 loses the tag"
		x.left, x.strayed = x.seen.Record.Epoch, false
		x.members = slices.Delete(slices.Clone(x.members), i, i+1)
	} else {
		x.members = append(slices.Clone(x.members), host)
		x.strayed = x.seen.Record.Epoch != x.left
		slices.Sort(x.members)
	}
	if err := x.putMembers(); err != nil {
		what += ", later: " + err.Error()
	}
	return what, nil
}

func (x *storm) putMembers() error {
	err := x.orders(func(ctx context.Context, b *box) error {
		_, err := b.api.SetMembers(ctx, "tags/"+shopTag, strings.Join(x.members, "\n")+"\n", "soak")
		return err
	})
	x.unsaid = err != nil
	return err
}
