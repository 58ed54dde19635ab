package replica

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

func TestClocksAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		var ms []*member
		for i := range 3 {
			m := &member{name: string(rune('a' + i))}
			start(t, f, m, Config{Clock: skewed{m}})
			ms = append(ms, m)
		}
		defer stopAll(ms)
		put(t, ms[0], "web1", "1")
		time.Sleep(30 * time.Second)
		skewed{ms[2]}.set(3200 * time.Millisecond)
		time.Sleep(time.Minute)
		st := ms[0].replica.Status().Clocks
		if st.Known != 3 || st.Wrong || st.Ahead.Abs() > 10*time.Millisecond || len(st.Peers) != 2 {
			t.Fatalf("clocks at a: %+v", st)
		}
		if c := st.Peers[1]; c.Node != "c" || !c.Wrong || (c.Off-3200*time.Millisecond).Abs() > 10*time.Millisecond {
			t.Errorf("the clock of c at a: %+v", c)
		}
		if st.Peers[0].Wrong {
			t.Errorf("an honest clock is called wrong: %+v", st.Peers[0])
		}
		if own := ms[2].replica.Status().Clocks; !own.Wrong || (own.Ahead-3200*time.Millisecond).Abs() > 10*time.Millisecond {
			t.Errorf("c does not know that it is off: %+v", own)
		}
		_, err := ms[2].store.Update(t.Context(), hostdb.Request{User: "u", Log: "l"}, func(tx *hostdb.Tx) error {
			return tx.Put(hostdb.Hosts, "x", hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text("1")}))
		})
		if !errors.Is(err, hostdb.ErrClock) {
			t.Errorf("a write at a box whose clock is off gave %v", err)
		}
		skewed{ms[2]}.set(0)
		time.Sleep(time.Minute)
		put(t, ms[2], "web2", "1")
	})
}

func TestTwoClocksCannotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		a, b := &member{name: "a"}, &member{name: "b", skew: -4 * time.Second}
		start(t, f, a, Config{Clock: skewed{a}})
		start(t, f, b, Config{Clock: skewed{b}})
		defer stopAll([]*member{a, b})
		time.Sleep(30 * time.Second)
		for _, m := range []*member{a, b} {
			if st := m.replica.Status().Clocks; !st.Differ || st.Wrong || st.Known != 2 || st.Peers[0].Wrong {
				t.Errorf("%s: %+v", m.name, st)
			}
		}
		put(t, b, "web1", "1") // the one that is behind; nothing of a's is ahead of it yet
	})
}

func TestJudgeClocks(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		offsets []time.Duration
		ahead   time.Duration
		wrong   int // peers
		self    bool
	}{
		{nil, 0, 0, false},
		{[]time.Duration{0, 0}, 0, 0, false},
		{[]time.Duration{5 * s, 5 * s}, -5 * s, 0, true},
		{[]time.Duration{0, 5 * s}, 0, 1, false},
		{[]time.Duration{-2 * s, 0, 0, 3 * s}, 0, 2, false},
		{[]time.Duration{1 << 62, 0, -1 << 62}, 0, 2, false},
	} {
		var peers []ClockStatus
		for _, o := range c.offsets {
			peers = append(peers, ClockStatus{Offset: o})
		}
		st := judgeClocks(peers)
		wrong := 0
		for _, p := range st.Peers {
			if p.Wrong {
				wrong++
			}
		}
		if st.Ahead != c.ahead || wrong != c.wrong || st.Wrong != c.self {
			t.Errorf("%v: ahead %s, %d wrong, self %v; want %s, %d, %v", c.offsets, st.Ahead, wrong, st.Wrong, c.ahead, c.wrong, c.self)
		}
	}
}

func TestHeldAsideIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 2, Config{})
		defer stopAll(ms)
		put(t, ms[0], "web0", "1")
		time.Sleep(time.Second)
		skewed{ms[0]}.set(20 * time.Second)
		put(t, ms[0], "web1", "1")
		time.Sleep(2 * time.Second)
		list := ms[1].replica.Status().Aside
		if len(list) != 1 || list[0].Node != "node000" || list[0].Seq != 2 || list[0].Ahead < 15*time.Second || list[0].Until.Before(list[0].Since) {
			t.Fatalf("held aside: %+v", list)
		}
		calls := f.called("node001") + f.called("node000")
		time.Sleep(10 * time.Second)
		if more := f.called("node001") + f.called("node000") - calls; more > 40 {
			t.Errorf("%d calls in ten seconds about what must wait", more)
		}
		time.Sleep(30 * time.Second)
		if list := ms[1].replica.Status().Aside; len(list) != 0 {
			t.Errorf("still listed: %+v", list)
		}
		equal(t, ms...)
	})
}
