package replica

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

// step is one thing that happens to a mesh.
type step struct {
	What        string
	Node, Other int
	Writes      int
	Wait        time.Duration
}

// story is a mesh and what happens to it.
type story struct {
	Nodes, Fanout, Bytes int
	Join                 uint64
	Steps                []step
}

var stories = rapid.Custom(func(rt *rapid.T) story {
	s := story{
		Nodes:  rapid.IntRange(3, 7).Draw(rt, "nodes"),
		Fanout: rapid.SampledFrom([]int{2, 64}).Draw(rt, "fanout"),
		Bytes:  rapid.SampledFrom([]int{300, 1 << 20}).Draw(rt, "bytes"),
		Join:   rapid.SampledFrom([]uint64{3, 1000}).Draw(rt, "join"),
	}
	s.Steps = rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{
			What:  rapid.SampledFrom([]string{"write", "write", "write", "cut", "one way", "heal", "kill", "join", "wait"}).Draw(rt, "what"),
			Node:  rapid.IntRange(0, 8).Draw(rt, "node"),
			Other: rapid.IntRange(0, 8).Draw(rt, "other"), Writes: rapid.IntRange(1, 6).Draw(rt, "writes"),
			Wait: time.Duration(rapid.IntRange(0, 90_000).Draw(rt, "ms")) * time.Millisecond,
		}
	}), 5, 25).Draw(rt, "steps")
	return s
})

// Whatever happens to a mesh of three to seven replicas, they are equal once everything is well again, and nothing that was
// acknowledged is lost. More of it: -rapid.checks=10000.
func TestReplicasAgreeInTheEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := stories.Draw(rt, "story")
		var err error
		synctest.Test(t, func(t *testing.T) { err = s.play(t) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// play lets a story happen and says what is wrong at its end.
func (s *story) play(t *testing.T) error {
	f := newFabric()
	var ms []*member
	up := map[*member]bool{}
	var names atomic.Pointer[[]string]
	cfg := Config{
		Fanout: s.Fanout, JoinOperations: s.Join, MessageBytes: s.Bytes, RetireEvery: time.Minute,
		Members: func() []string { return *names.Load() },
	}
	add := func() {
		m := &member{name: fmt.Sprintf("n%d", len(ms))}
		ms = append(ms, m)
		var list []string
		for _, m := range ms {
			list = append(list, m.name)
		}
		names.Store(&list)
		start(t, f, m, cfg)
		up[m] = true
	}
	for range s.Nodes {
		add()
	}
	defer func() {
		for m := range up {
			if up[m] {
				m.stop()
			}
		}
	}()
	written := map[string]bool{}
	for i, x := range s.Steps {
		m, other := ms[x.Node%len(ms)], ms[x.Other%len(ms)]
		switch x.What {
		case "write":
			for j := range x.Writes {
				if key := fmt.Sprintf("k%d-%d", i, j); up[m] && tryPut(m, key) {
					written[key] = true
				}
			}
		case "cut":
			f.set(func() { f.cut[[2]string{m.name, other.name}] = true })
		case "one way":
			f.set(func() { f.deaf[[2]string{m.name, other.name}] = true })
		case "heal":
			f.set(func() { clear(f.cut); clear(f.deaf) })
		case "kill":
			if up[m] {
				m.kill()
			} else {
				start(t, f, m, cfg)
			}
			up[m] = !up[m]
		case "join":
			if len(ms) < 9 {
				add()
			}
		case "wait":
			time.Sleep(x.Wait)
		}
	}
	f.set(func() { clear(f.cut); clear(f.deaf) })
	for _, m := range ms {
		if !up[m] {
			start(t, f, m, cfg)
			up[m] = true
		}
	}
	time.Sleep(5 * time.Minute)
	return judgeMesh(ms, written)
}

// judgeMesh says what is wrong with replicas that should be equal.
func judgeMesh(ms []*member, written map[string]bool) error {
	first := ms[0].store.View()
	for _, m := range ms {
		v, st := m.store.View(), m.replica.Status()
		for _, ns := range []string{hostdb.Hosts, hostdb.System} {
			if v.Version().String() != first.Version().String() || v.Digest(ns) != first.Digest(ns) {
				return fmt.Errorf("%s is at %s, %s at %s: %+v", ms[0].name, first.Version(), m.name, v.Version(), st)
			}
		}
		if m.store.Missing() > 0 {
			return fmt.Errorf("%s lacks history: %+v", m.name, st.Fill)
		}
		if len(st.Forks) > 0 || st.Counts.Mismatches > 0 || st.Counts.Refused > 0 {
			return fmt.Errorf("%s: %+v", m.name, st)
		}
	}
	for key := range written {
		if !first.Exists(hostdb.Hosts, key) {
			return fmt.Errorf("%s was acknowledged and is lost", key)
		}
	}
	return nil
}

// tryPut writes a key; it reports whether that was acknowledged. While a state is taken nothing can be written.
func tryPut(m *member, key string) bool {
	_, err := m.store.Update(noContext, hostdb.Request{User: "u", Log: "l"}, func(tx *hostdb.Tx) error {
		return tx.Put(hostdb.Hosts, key, hostdb.NewDocument(hostdb.Leaf{Path: hostdb.PathOf("x"), Value: hostdb.Text("1")}))
	})
	return err == nil
}

func TestRetirable(t *testing.T) {
	h := func(origin, seq uint64, node string, at int) hostdb.Head {
		return hostdb.Head{Origin: origin, Seq: seq, Node: node, Time: hostdb.Time(at)}
	}
	heads := []hostdb.Head{h(1, 5, "a", 1), h(2, 7, "a", 2), h(3, 1, "b", 1), h(4, 9, "gone", 1), h(5, 2, "", 1)}
	members := []string{"a", "b"}
	for _, c := range []struct {
		what string
		held map[uint64]uint64
		want []uint64
	}{
		{"everything is held: closed runs and those of who is no member", map[uint64]uint64{1: 5, 2: 7, 3: 1, 4: 9, 5: 2}, []uint64{1, 4}},
		{"one member lacks the end", map[uint64]uint64{1: 4, 2: 7, 3: 1, 4: 9, 5: 2}, []uint64{4}},
		{"nothing is known", nil, nil},
		{"more than ours is held", map[uint64]uint64{1: 6}, []uint64{1}},
	} {
		var got []uint64
		for _, d := range retirable(heads, members, func(o uint64) uint64 { return c.held[o] }) {
			got = append(got, d.Origin)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	if retirer([]string{"a", "b", "c"}) != retirer([]string{"c", "a", "b"}) {
		t.Error("members do not agree who retires")
	}
}

// Closed runs leave the vector when every member has them, and not while one is away.
func TestClosedRunsAreRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		var sick atomic.Bool
		cfg := Config{Members: func() []string { return []string{"node000", "node001", "node002"} }, Sick: sick.Load}
		ms := mesh(t, f, 3, cfg)
		defer stopAll(ms)
		for i := range 4 {
			put(t, ms[1], fmt.Sprint("w", i), "1")
			ms[1].kill()
			start(t, f, ms[1], cfg)
		}
		put(t, ms[1], "last", "1")
		ms[2].kill()
		time.Sleep(20 * time.Minute)
		heads := func(m *member) (n int) {
			for range m.store.View().Heads() {
				n++
			}
			return n
		}
		if n := heads(ms[0]); n != 5 {
			t.Errorf("%d runs are named while a member is away, want all 5", n)
		}
		sick.Store(true)
		start(t, f, ms[2], cfg)
		time.Sleep(20 * time.Minute)
		if n := heads(ms[0]); n != 5 {
			t.Errorf("%d runs are named: some were retired while nodes doubt themselves", n)
		}
		sick.Store(false)
		time.Sleep(20 * time.Minute)
		for _, m := range ms {
			if n := heads(m); n > 3 {
				t.Errorf("%s names %d runs, want the open one and that of who retired", m.name, n)
			}
		}
		equal(t, ms...)
		for _, m := range ms {
			for h := range m.store.View().AllHeads() {
				if got := m.replica.HeldByAll(h.Origin); got != h.Seq {
					t.Errorf("%s: %d of %d operations of %016x are held by all", m.name, got, h.Seq, h.Origin)
				}
			}
		}
		// A joiner takes them all the same, and nobody names more than before.
		d := &member{name: "node003"}
		start(t, f, d, cfg)
		defer d.stop()
		until(t, "the joiner is synced", d.replica.Synced)
		time.Sleep(10 * time.Second)
		equal(t, append(ms, d)...)
	})
}

func TestHeldElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{Members: func() []string { return []string{"node000", "node001", "absent"} }}
		ms := mesh(t, f, 2, cfg)
		defer stopAll(ms)
		put(t, ms[0], "a", "1")
		time.Sleep(10 * time.Second)
		origin := ms[0].store.Origin()
		f.set(func() { f.cut[[2]string{"node000", "node001"}] = true })
		put(t, ms[0], "b", "1")
		time.Sleep(10 * time.Second)
		if got := ms[0].replica.HeldElsewhere(origin); got != 1 {
			t.Errorf("held elsewhere: %d, want 1 of 2", got)
		}
		if got := ms[0].replica.HeldByAll(origin); got != 0 {
			t.Errorf("held by all: %d, but one member was never heard", got)
		}
	})
}
