package plan

import (
	"fmt"
	"maps"
	"math/rand"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/mesh"
)

// TestRules runs random histories: whatever is written, drained and observed, in whatever order, the rules hold between each
// plan and the next, and a Planner says what a plan of its own would (world.plan).
func TestRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		defer w.store.Close()
		const hosts = 12
		docs := web(hosts)
		w.write(docs)
		w.write(map[string]string{"tags/other": "LB: {VIP: 10.1.0.51, Ports: {80/tcp: 80}}", "tags/other/members": "@web"})
		w.plan()
		host := func() int { return rapid.IntRange(1, hosts).Draw(t, "host") }
		some := func(label string) []int {
			return rapid.SliceOfNDistinct(rapid.IntRange(1, hosts), 0, hosts, rapid.ID).Draw(t, label)
		}
		list := func(of []int) string {
			var b strings.Builder
			for _, i := range of {
				b.WriteString(name(i) + "\n")
			}
			return b.String()
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			before := w.last
			forced := map[string]bool{}
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				switch rapid.IntRange(0, 10).Draw(t, "change") {
				case 0, 1:
					w.write(map[string]string{"tags/web/members": list(some("members"))})
				case 2:
					w.write(map[string]string{"tags/other/members": list(some("members"))})
				case 3:
					tag := rapid.SampledFrom([]string{"web", "other"}).Draw(t, "tag")
					vip := rapid.SampledFrom([]string{"10.1.0.50", "10.1.0.51", "10.1.0.52", "10.1.9.9"}).Draw(t, "vip")
					force := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "force")
					forced[tag] = true
					w.write(map[string]string{"tags/" + tag: fmt.Sprintf("LB: {VIP: %s, Ports: {80/tcp: 8080}, Force: '%s'}", vip, force)})
				case 4:
					i := host()
					status := rapid.SampledFrom([]string{"active", "active", "maintenance", "retired"}).Draw(t, "status")
					w.write(map[string]string{hostID(i): fmt.Sprintf("{Network: {IP: 10.1.8.%d}, Status: %s}", rapid.SampledFrom([]int{i, i, i, i%hosts + 1, 100 + i}).Draw(t, "ip"), status)})
				case 5:
					for _, i := range some("failing") {
						w.verdicts[name(i)] = rapid.SampledFrom([]Judgement{Down, Unknown}).Draw(t, "verdict")
					}
				case 6:
					clear(w.verdicts)
				case 7:
					w.drained = maps.Clone(w.drained)
					w.drained[name(host())] = "x"
				case 8:
					w.drained = map[string]string{}
				case 9:
					w.members[name(host())] = rapid.SampledFrom([]mesh.State{mesh.StateAlive, mesh.StateFailed, mesh.StateLeft}).Draw(t, "state")
				case 10:
					w.after(time.Duration(rapid.IntRange(0, 10).Draw(t, "minutes")) * time.Minute)
				}
			}
			r := w.plan()
			for _, s := range r.Services {
				old, had := before.Service(s.Tag)
				checkService(t, w, old, s, had, forced[s.Tag])
			}
			// The same again changes nothing, but that what left counts no more: another step may follow from it.
			again := w.plan()
			for _, s := range again.Services {
				old, had := r.Service(s.Tag)
				checkService(t, w, old, s, had, false)
			}
			third := w.plan()
			for range hosts {
				if len(third.Changed) == 0 {
					break
				}
				third = w.plan()
			}
			if len(third.Changed) > 0 {
				t.Fatalf("it does not come to rest:\n%s", show(third))
			}
		}
	})
}

func checkService(t *rapid.T, w *world, old, s *Service, had, forced bool) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		before := ""
		if had {
			before = show(Result{Services: []*Service{old}})
		}
		t.Fatalf(format+"\nbefore:\n%safter:\n%s", append(args, before, show(Result{Services: []*Service{s}}))...)
	}
	addrs := map[string]bool{}
	in, pool := 0, 0
	for i := range s.Backends {
		b := &s.Backends[i]
		if addrs[b.Addr.String()] {
			fail("%s twice", b.Addr)
		}
		addrs[b.Addr.String()] = true
		if b.State == In {
			in++
			if b.Cause.leaving() {
				fail("%s is in and leaves", b.Host)
			}
			if b.Cause != "" && !s.FailOpen {
				fail("%s is in with cause %s", b.Host, b.Cause)
			}
		}
		if b.pooled() {
			pool++
		}
		if (b.State == Draining) != !b.Since.IsZero() || b.State == Out && b.Why == "" || b.State == Draining && !w.now.Before(s.ends(b)) {
			fail("%s is %s since %s", b.Host, b.State, b.Since)
		}
		if i > 0 && compareSeats(seatOf(&s.Backends[i-1]), seatOf(b)) >= 0 {
			fail("not sorted")
		}
	}
	if pool > 0 && in == 0 {
		fail("nobody is in, of %d", pool)
	}
	if !had {
		return
	}
	// What a change of HostDB took out: pooled before, not pooled now, and not because a person drains it.
	oldPool, left, came := 0, 0, 0
	now := map[string]*Backend{}
	for i := range s.Backends {
		now[s.Backends[i].Addr.String()] = &s.Backends[i]
	}
	was := map[string]bool{}
	for i := range old.Backends {
		b := &old.Backends[i]
		if !b.pooled() {
			continue
		}
		oldPool++
		was[b.Addr.String()] = true
		if x := now[b.Addr.String()]; (x == nil || !x.pooled()) && (x == nil || x.Cause != Drained) {
			left++
		}
	}
	for i := range s.Backends {
		if b := &s.Backends[i]; b.State == In && b.Cause == "" && !was[b.Addr.String()] {
			came++
		}
	}
	if left-came > max(1, oldPool*30/100) && !forced {
		fail("%d of %d left, %d came", left, oldPool, came)
	}
	if oldPool > 0 && pool == 0 {
		fail("the last left")
	}
}

// TestOrder checks that the order of writing, and of members, says nothing.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Int64().Draw(t, "seed")
		n := rapid.IntRange(1, 10).Draw(t, "hosts")
		tags := rapid.IntRange(1, 5).Draw(t, "tags")
		var want string
		for round := range 3 {
			r := rand.New(rand.NewSource(seed + int64(round)))
			w := newWorld(t)
			w.write(web(n))
			w.write(map[string]string{"tags/t0": "{}"}) // revisions decide who was first, and are the same below
			for i := range tags {
				members := make([]string, 0, n)
				for _, h := range r.Perm(n) {
					members = append(members, name(h+1))
				}
				w.write(map[string]string{fmt.Sprintf("tags/t%d", i): fmt.Sprintf("LB: {VIP: 10.1.0.%d, Ports: {80/tcp: 80, 443/tcp: 80}}", 48+i%3), fmt.Sprintf("tags/t%d/members", i): strings.Join(members, "\n")})
				if r.Intn(2) == 0 {
					w.plan() // a Planner that looked in between says the same
				}
			}
			have := show(w.plan())
			w.store.Close()
			if round == 0 {
				want = have
			} else if have != want {
				t.Fatalf("in another order:\n%s\nand first:\n%s", have, want)
			}
		}
	})
}

// BenchmarkChange is one change of one host beside many: the cost follows the change.
func BenchmarkChange(b *testing.B) {
	for _, others := range []int{1000, 50_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			w := newWorld(b)
			defer w.store.Close()
			docs := web(10)
			for i := range others {
				docs[fmt.Sprintf("hosts/other%05d", i)] = fmt.Sprintf("Network: {IP: 10.2.%d.%d}", i/250, i%250)
			}
			for i := range others / 100 {
				docs[fmt.Sprintf("tags/t%05d", i)] = fmt.Sprintf("LB: {VIP: 10.1.0.%d, Ports: {%d/tcp: 80}}", 48+i%16, 1000+i/16)
				docs[fmt.Sprintf("tags/t%05d/members", i)] = fmt.Sprintf("other%05d\nother%05d\n", i*100, i*100+1)
			}
			w.write(docs)
			p := NewPlanner(Result{})
			a := w.store.View()
			w.write(map[string]string{"tags/web/members": listOf(1, 9)})
			v := w.store.View()
			m := w.mesh()
			in := w.input()
			p.Plan(a, m, in)
			b.ResetTimer()
			for i := range b.N {
				if i%2 == 0 {
					p.Plan(v, m, in)
				} else {
					p.Plan(a, m, in)
				}
			}
		})
	}
}
