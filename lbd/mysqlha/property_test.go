package mysqlha_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
)

// deed is one thing that happens.
type deed struct {
	what string
	host string
	to   string
	wait time.Duration
}

func (d deed) String() string {
	return fmt.Sprintf("{%q, %q, %q, %d}, // %s", d.what, d.host, d.to, d.wait, d.wait)
}

// life is a cluster to which things happen.
type life struct {
	w       *mysqlhatest.World
	holders []*mysqlhatest.Holder // those that have, or had, the duty
	// lossy says that somebody has accepted that acknowledged transactions are lost: then it is to be announced.
	lossy bool
	// wiped says that a server has lost its data: of two that do, what was acknowledged may be gone.
	wiped bool

	mu      sync.Mutex // guards the fields below
	section section.MySQL
	out     map[string]bool // hosts without the tag
}

func (l *life) mysql() section.MySQL {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.section
}

func (l *life) edit(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *life) members() []mysqlha.Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(l.w.Members(), func(m mysqlha.Member) bool { return l.out[m.Host] })
}

func (l *life) last() *mysqlhatest.Holder { return l.holders[len(l.holders)-1] }

func (l *life) hold() {
	l.holders = append(l.holders, l.w.Hold("watcher", l.mysql, l.members, logger()))
}

// ask has a person ask for something, and not wait. It may be refused.
func (l *life) ask(f func(ctx context.Context, h *mysqlhatest.Holder)) {
	h := l.last()
	go func() {
		ctx, cancel := context.WithTimeout(l.w.Context(), 20*time.Second)
		defer cancel()
		f(ctx, h)
	}()
}

// do has it happen.
func (d deed) do(l *life) {
	w := l.w
	switch d.what {
	case "kill":
		w.Kill(d.host)
	case "wipe", "wipe the primary": // of a whole cluster, and once: all that was acknowledged is on another
		if l.wiped || !whole(w, len(l.members()))() {
			return
		}
		l.wiped = true
		host := d.host
		if d.what != "wipe" {
			host = w.Record().Primary
		}
		w.Kill(host)
		w.Wipe(host)
	case "kill the primary":
		w.Kill(w.Record().Primary)
	case "freeze":
		w.Freeze(d.host, true)
	case "thaw":
		w.Freeze(d.host, false)
	case "freeze the primary":
		w.Freeze(w.Record().Primary, true)
	case "isolate":
		w.Isolate(d.host, true)
	case "join":
		w.Isolate(d.host, false)
	case "silence":
		w.Silence(d.host, true)
	case "speak":
		w.Silence(d.host, false)
	case "stop its agent":
		w.StopAgent(d.host)
	case "kill its agent":
		w.KillAgent(d.host)
	case "start its agent":
		w.StartAgent(d.host)
	case "flush":
		w.Flush(d.host)
	case "cut":
		w.Link(d.host, d.to, false)
	case "mend":
		w.Link(d.host, d.to, true)
		w.OneWay(d.host, d.to, true)
		w.OneWay(d.to, d.host, true)
	case "one way":
		w.OneWay(d.host, d.to, false)
	case "blind":
		w.Link(d.host, "watcher", false)
	case "deaf": // the watcher does not hear it
		w.OneWay(d.host, "watcher", false)
	case "mute":
		w.OneWay("watcher", d.host, false)
	case "see":
		w.Link(d.host, "watcher", true)
		w.OneWay(d.host, "watcher", true)
		w.OneWay("watcher", d.host, true)
	case "power off":
		w.Power(d.host, false)
	case "power on":
		w.Power(d.host, true)
	case "reboot":
		w.Reboot(d.host)
	case "reboot the primary":
		w.Reboot(w.Record().Primary)
	case "restart":
		w.Restart(d.host)
	case "restart the primary":
		w.Restart(w.Record().Primary)
	case "agent ends":
		w.Agent(d.host, false)
	case "agent of the primary ends":
		w.Agent(w.Record().Primary, false)
	case "agent begins":
		w.Agent(d.host, true)
	case "stop applying":
		w.StopSQL(d.host)
	case "purge":
		w.Purge(d.host)
	case "hang":
		w.Stick(d.host, true)
	case "go on":
		w.Stick(d.host, false)
	case "slow":
		w.Slow(d.host, 1)
	case "saturate":
		w.Saturate(d.host, true)
	case "next runner":
		l.last().End()
		l.hold()
	case "overtaken runner": // it does not know, and nobody stops it
		l.hold()
	case "runner that does not know": // its clock stands still
		l.last().BelieveStill()
		l.hold()
	case "switchover":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) {
			_, _ = h.Switchover(ctx, d.host, "somebody", "a test")
		})
	case "failover":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Failover(ctx, false, "somebody", "a test") })
	case "force":
		l.lossy = true
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Failover(ctx, true, "somebody", "a test") })
	case "clone":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Clone(ctx, "", d.host, "somebody") })
	case "rejoin":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Rejoin(ctx, d.host, "somebody") })
	case "unheard":
		w.Unheard(d.host, true)
	case "heard":
		w.Unheard(d.host, false)
	case "acknowledge":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Ack(ctx, "somebody", "a test") })
	case "pause":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Pause(ctx, "somebody", "a test") })
	case "resume":
		l.ask(func(ctx context.Context, h *mysqlhatest.Holder) { _, _ = h.Resume(ctx, "somebody", "a test") })
	case "manual":
		l.edit(func() { l.section.Failover = section.Manual })
	case "auto":
		l.edit(func() { l.section.Failover = section.Auto })
	case "available":
		l.lossy = true
		l.edit(func() { l.section.Durability = section.Available })
	case "strict":
		l.edit(func() { l.section.Durability = section.Strict })
	case "leave":
		l.edit(func() { l.out[d.host] = true })
	case "come":
		l.edit(func() { delete(l.out, d.host) })
	case "no quorum":
		w.Quorum(false)
	case "quorum":
		w.Quorum(true)
	case "reads nothing":
		w.Unread(d.host, true)
	case "reads":
		w.Unread(d.host, false)
	case "watcher reads nothing":
		w.Unread("watcher", true)
	case "watcher reads":
		w.Unread("watcher", false)
	default:
		panic("there is no deed " + d.what)
	}
}

// deeds are what can happen to a cluster in which nobody accepts that anything is lost; some are there twice, for they are likelier.
var deeds = []string{
	"kill", "kill the primary", "kill the primary", "freeze", "thaw", "freeze the primary", "isolate", "join", "join", "silence", "speak", "speak", "stop its agent", "kill its agent", "start its agent", "start its agent", "flush", "cut", "mend", "mend", "one way", "blind", "deaf", "mute", "see", "see",
	"power off", "power on", "power on", "reboot", "reboot the primary", "restart", "restart the primary", "agent ends", "agent of the primary ends", "agent begins", "agent begins", "stop applying", "purge", "hang", "go on",
	"slow", "saturate", "next runner", "overtaken runner", "runner that does not know", "switchover", "failover", "clone", "clone", "unheard", "heard", "rejoin", "acknowledge", "acknowledge", "pause", "resume", "resume", "manual", "auto", "auto",
	"wipe", "wipe the primary", "leave", "come", "come", "no quorum", "quorum", "reads nothing", "reads", "watcher reads nothing", "watcher reads",
}

// lossy are those that say that something may be lost.
var lossy = []string{"available", "available", "strict", "force"}

// drawn is what happens to a cluster.
type drawn struct {
	servers            int
	vms, lands, echoes bool
	plan               []deed
	newcomer           bool // the last has no data, and no tag
}

func (x drawn) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "drawn{servers: %d, vms: %v, lands: %v, echoes: %v, newcomer: %v, plan: []deed{\n", x.servers, x.vms, x.lands, x.echoes, x.newcomer)
	for _, d := range x.plan {
		fmt.Fprintf(&b, "\t%s\n", d)
	}
	return b.String() + "}}"
}

func draw(rt *rapid.T, deeds []string) drawn {
	x := drawn{servers: rapid.IntRange(2, 4).Draw(rt, "servers")}
	host := rapid.SampledFrom([]string{"a", "b", "c", "d"}[:x.servers])
	for range rapid.IntRange(1, 14).Draw(rt, "deeds") {
		x.plan = append(x.plan, deed{
			rapid.SampledFrom(deeds).Draw(rt, "deed"), host.Draw(rt, "host"), host.Draw(rt, "to"),
			time.Duration(rapid.SampledFrom([]int{0, 1, 3, 7, 20, 60, 300, 1000, 4000, 12000}).Draw(rt, "wait")) * time.Millisecond,
		})
	}
	x.vms, x.lands, x.echoes = rapid.Bool().Draw(rt, "machines"), rapid.Bool().Draw(rt, "lands"), rapid.Bool().Draw(rt, "echoes")
	x.newcomer = x.servers > 2 && rapid.Bool().Draw(rt, "newcomer")
	return x
}

// drawnAlike has each run draw the same, unless -rapid.seed says what: what is found by chance is found by hand, with many of them.
func drawnAlike(t *testing.T) {
	if f := flag.Lookup("rapid.seed"); f != nil && f.Value.String() == "0" {
		if err := f.Value.Set("3"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set("0") }) // it was that
	}
}

// TestNothingAcknowledgedIsLost has anything happen to a strict cluster, in any order; then all is mended. What must never be never was, and what clients were told of is there.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	drawnAlike(t)
	rapid.Check(t, func(rt *rapid.T) { lives(t, rt, draw(rt, deeds)) })
}

// TestWhatMayBeLostIsAnnounced is the same where people accept that transactions are lost: then history says so.
func TestWhatMayBeLostIsAnnounced(t *testing.T) {
	drawnAlike(t)
	rapid.Check(t, func(rt *rapid.T) { lives(t, rt, draw(rt, slices.Concat(deeds, lossy, lossy))) })
}

// TestWhatWasFound are plans that something was found by.
func TestWhatWasFound(t *testing.T) {
	for name, x := range map[string]drawn{
		"forced, and no server runs": {servers: 2, echoes: true, plan: []deed{
			{"kill", "b", "a", 7 * time.Millisecond}, {"kill the primary", "a", "b", time.Millisecond}, {"force", "b", "b", time.Second},
		}},
		"forced, and the only other has not rejoined": {servers: 2, vms: true, plan: []deed{
			{"reboot the primary", "b", "b", 12 * time.Second}, {"join", "a", "a", 0}, {"reboot the primary", "a", "b", 300 * time.Millisecond}, {"isolate", "a", "a", time.Second},
			{"force", "a", "b", 7 * time.Millisecond}, {"saturate", "b", "a", 0}, {"see", "a", "a", 20 * time.Millisecond},
		}},
		"forced, and only one without data runs": {servers: 4, vms: true, lands: true, echoes: true, newcomer: true, plan: []deed{
			{"kill its agent", "c", "b", 20 * time.Millisecond}, {"see", "c", "d", 12 * time.Second}, {"flush", "a", "d", time.Millisecond}, {"kill", "c", "b", time.Second}, {"isolate", "c", "b", 4 * time.Second},
			{"kill the primary", "c", "b", time.Millisecond}, {"kill", "b", "c", 0}, {"start its agent", "b", "b", 3 * time.Millisecond}, {"force", "c", "c", 0}, {"join", "a", "a", 300 * time.Millisecond},
			{"force", "c", "b", 60 * time.Millisecond}, {"no quorum", "c", "b", time.Second}, {"force", "b", "b", 3 * time.Millisecond}, {"kill the primary", "c", "a", 0},
		}},
		"one that takes back what it wrote breaks off": {servers: 2, lands: true, plan: []deed{
			{"one way", "b", "a", 4 * time.Second}, {"kill", "a", "a", 0}, {"restart the primary", "b", "b", time.Second}, {"kill", "a", "b", 0}, {"reads", "b", "a", 60 * time.Millisecond},
			{"watcher reads", "b", "b", 0}, {"kill", "a", "a", time.Second}, {"saturate", "a", "b", 12 * time.Second},
		}},
		"a cut is taken back by an order that arrives again": {servers: 4, echoes: true, lands: true, plan: []deed{
			{"kill", "a", "d", 3 * time.Millisecond}, {"blind", "d", "c", 3 * time.Millisecond}, {"available", "b", "d", 3 * time.Millisecond}, {"strict", "d", "b", 3 * time.Millisecond}, {"clone", "a", "b", 12 * time.Second},
			{"available", "a", "c", 4 * time.Second}, {"freeze the primary", "b", "c", time.Millisecond}, {"join", "c", "a", 3 * time.Millisecond}, {"leave", "a", "b", time.Millisecond},
		}},
		"the only one that knows what the primary had is set to follow it anew": {servers: 2, vms: true, plan: []deed{
			{"kill the primary", "b", "b", 0}, {"freeze", "b", "b", 7 * time.Millisecond}, {"power on", "b", "a", 12 * time.Second}, {"mute", "b", "a", 60 * time.Millisecond}, {"start its agent", "b", "a", 7 * time.Millisecond},
			{"wipe", "a", "a", time.Millisecond}, {"freeze", "b", "b", 0}, {"next runner", "b", "a", 3 * time.Millisecond}, {"start its agent", "a", "a", time.Millisecond}, {"acknowledge", "a", "a", 3 * time.Millisecond},
			{"available", "a", "b", time.Millisecond}, {"power off", "b", "b", time.Millisecond}, {"hang", "a", "b", 3 * time.Millisecond}, {"flush", "a", "b", 3 * time.Millisecond},
		}},
	} {
		t.Run(name, func(t *testing.T) { lives(t, t, x) })
	}
}

func lives(t *testing.T, rt interface{ Fatalf(string, ...any) }, x drawn) {
	var wrong []string
	synctest.Test(t, func(t *testing.T) { wrong = live(t, x) })
	if len(wrong) > 0 {
		rt.Fatalf("%v\nnever to be: %s", x, strings.Join(wrong, "\n"))
	}
}

func live(t *testing.T, x drawn) (wrong []string) {
	w := mysqlhatest.New("shop-db", x.servers, true)
	defer w.Close()
	l := &life{w: w, section: w.Section(), out: map[string]bool{}}
	for _, m := range w.Members() {
		w.VM(m.Host, x.vms)
	}
	w.Lands(x.lands)
	w.Echoes(x.echoes)
	if x.newcomer {
		host := string(rune('a' + x.servers - 1))
		w.Empty(host)
		l.out[host] = true
	}
	l.hold()
	time.Sleep(500 * time.Millisecond)
	c := write(t, w)
	time.Sleep(200 * time.Millisecond)
	for _, d := range x.plan {
		w.Say(d.String())
		d.do(l)
		time.Sleep(d.wait)
	}
	w.Say("all is mended")
	l.mend()
	// It is whole when it stays so: what the record says may be older than what has happened.
	well := 0
	for n, end := 0, time.Now().Add(10*time.Minute); well < 5 && time.Now().Before(end); n++ {
		if well++; !whole(w, x.servers)() {
			well = 0
		}
		if well == 0 && n%10 == 9 {
			l.serve()
		}
		time.Sleep(time.Second)
	}
	c.end()
	r := w.Record()
	announced := l.lossy && slices.ContainsFunc(r.History, func(e mysqlha.Event) bool { return e.Loss != "" })
	for _, f := range w.Faults() {
		if !l.lossy || !strings.Contains(f, "take writes that can be acknowledged") {
			wrong = append(wrong, f)
		}
	}
	if lost := w.Lost(r.Primary); len(lost) > 0 && !announced {
		wrong = append(wrong, fmt.Sprintf("%s has not got %d writes that clients were told of: %v; history %+v", r.Primary, len(lost), lost[:min(len(lost), 20)], r.History))
	}
	if well < 5 {
		text := ""
		if p := l.last().Picture(); p != nil {
			text = strings.Join(mysqlha.Explain(p), "\n")
		}
		wrong = append(wrong, fmt.Sprintf("it did not come back: %+v, intent %+v, writable %v, address %q: %s", r, r.Intent, w.Writable(), w.Address(), text))
	}
	if len(wrong) > 0 {
		wrong = append(wrong, "what was done before:\n"+strings.Join(w.Journal(), "\n"))
	}
	return wrong
}

// mend ends all faults.
func (l *life) mend() {
	w := l.w
	w.Quorum(true)
	w.Unread("watcher", false)
	w.Lands(false)
	w.Echoes(false)
	for _, m := range w.Members() {
		w.Isolate(m.Host, false)
		w.Freeze(m.Host, false)
		w.Silence(m.Host, false)
		w.Agent(m.Host, true)
		w.Power(m.Host, true)
		w.Stick(m.Host, false)
		w.Slow(m.Host, 0)
		w.Saturate(m.Host, false)
		w.Unread(m.Host, false)
		for _, to := range append(w.Members(), mysqlha.Member{Host: "watcher"}) {
			w.Link(m.Host, to.Host, true)
			w.OneWay(m.Host, to.Host, true)
			w.OneWay(to.Host, m.Host, true)
		}
	}
	l.edit(func() {
		l.out = map[string]bool{}
		l.section.Failover, l.section.Durability = section.Auto, section.Strict
	})
}

// serve is a person who does what the runbook says.
func (l *life) serve() {
	ask := func(f func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(l.w.Context(), 3*time.Second)
		defer cancel()
		_ = f(ctx) // it is asked for again
	}
	for _, m := range l.w.Members() {
		l.w.Power(m.Host, true) // a fence that was on its way may have destroyed its machine after all was mended
	}
	r := l.w.Record()
	if r.Paused != nil {
		ask(func(ctx context.Context) error { _, err := l.last().Resume(ctx, "somebody", "mended"); return err })
	}
	if !r.LastFailover.IsZero() && r.AckedBy == "" {
		ask(func(ctx context.Context) error { _, err := l.last().Ack(ctx, "somebody", "mended"); return err })
	}
	p := l.last().Picture()
	if p == nil {
		return
	}
	for _, d := range p.Diagnoses {
		switch d.Name {
		case mysqlha.IntentStopped, mysqlha.PrimaryLost: // its replicas were killed, too: what they had received and not applied is gone, which is announced
			if r.Intent != nil && !r.Intent.Spoilt {
				continue // it goes on by itself
			}
			l.lossy = true
			ask(func(ctx context.Context) error {
				_, err := l.last().Failover(ctx, true, "somebody", "a disk was replaced")
				return err
			})
		case mysqlha.ErrantFound, mysqlha.ReplicaBroken, mysqlha.ReplicaLost:
			ask(func(ctx context.Context) error { _, err := l.last().Clone(ctx, "", d.Host, "somebody"); return err })
		}
	}
}
