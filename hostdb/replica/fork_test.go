package replica

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// forkedPair are two members that hold two chains under one origin: each wrote it differently from operation 6 on. It is made by
// giving b the operations of a storage that was copied while its writer ran.
func forkedPair(t *testing.T, f *fabric, cfg Config) (a, b *member, origin uint64) {
	t.Helper()
	writer := &member{name: "w"}
	open := func(st *hostdbtest.Memory) *hostdb.Store {
		s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return st, nil }, NodeID: "w", Clock: skewed{writer}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// The same operations up to the fifth; then two different ones: operations are parsed and written anew under one origin.
	one := open(hostdbtest.NewMemory())
	defer one.Close()
	writer.store = one
	for i := range 8 {
		put(t, writer, fmt.Sprintf("k%d", i), "left")
	}
	origin = one.Origin()
	ops, err := one.Operations(origin, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	other := forge(t, ops, 5, "right")
	a, b = &member{name: "a"}, &member{name: "b"}
	f.set(func() { f.cut[[2]string{"a", "b"}] = true })
	start(t, f, a, cfg)
	start(t, f, b, cfg)
	for m, ops := range map[*member][][]byte{a: ops, b: other} {
		if n, err := m.store.Apply(t.Context(), ops); err != nil || n != len(ops) {
			t.Fatalf("%d of %d: %v", n, len(ops), err)
		}
	}
	return a, b, origin
}

func TestForkKeepsBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		f := newFabric()
		a, b, origin := forkedPair(t, f, Config{Logger: slog.New(slog.NewTextHandler(&out, nil))})
		defer stopAll([]*member{a, b})
		f.set(func() { clear(f.cut) })
		time.Sleep(30 * time.Second)
		for _, m := range []*member{a, b} {
			kept, err := m.store.Forks()
			if err != nil || len(kept) != 3 {
				t.Errorf("%s keeps %d operations aside, want 3: %v", m.name, len(kept), err)
			}
			st := m.replica.Status()
			if len(st.Forks) != 1 || st.Forks[0].Origin != origin || st.Forks[0].Node != "w" || fmt.Sprint(st.Forks[0].Seqs) != "[6 7 8]" || st.Counts.Forks != 1 {
				t.Errorf("%s: %+v, %d", m.name, st.Forks, st.Counts.Forks)
			}
		}
		if !strings.Contains(out.String(), "chain forks") {
			t.Error("no alarm was raised")
		}
		// Other origins go on, and the fork is not asked about over and over.
		put(t, a, "after", "1")
		put(t, b, "after2", "1")
		time.Sleep(10 * time.Second)
		if !b.store.View().Exists(hostdb.Hosts, "after") || !a.store.View().Exists(hostdb.Hosts, "after2") {
			t.Error("a fork holds back other origins")
		}
		asked := 0
		f.set(func() {
			f.hook = countName(&asked, historyName)
		})
		time.Sleep(time.Hour)
		f.set(func() { f.hook = nil })
		if asked > 40 {
			t.Errorf("asked %d times in an hour about one fork", asked)
		}
		// It is known after a restart.
		a.kill()
		start(t, f, a, Config{})
		if st := a.replica.Status(); len(st.Forks) != 1 || len(st.Forks[0].Seqs) != 3 {
			t.Errorf("after a restart: %+v", st.Forks)
		}
	})
}

// A chain that forks and is longer on one side is found by both.
func TestForkWithUnequalLengths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		a, b, origin := forkedPair(t, f, Config{})
		defer stopAll([]*member{a, b})
		ops, err := a.store.Operations(origin, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		more := forge(t, append(ops, ops[len(ops)-1]), len(ops), "longer")
		if _, err := a.store.Apply(t.Context(), more); err != nil {
			t.Fatal(err)
		}
		if a.store.View().Seq(origin) != 9 {
			t.Fatalf("a holds %d", a.store.View().Seq(origin))
		}
		f.set(func() { clear(f.cut) })
		time.Sleep(30 * time.Second)
		for _, m := range []*member{a, b} {
			if kept, err := m.store.Forks(); err != nil || len(kept) < 3 {
				t.Errorf("%s keeps %d aside: %v", m.name, len(kept), err)
			}
		}
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// spoil changes registers in a stopped member's storage behind its back: the key's row of another storage takes its place.
func spoil(t *testing.T, m *member, key string) {
	t.Helper()
	k := []byte("khosts\x00" + key)
	if err := m.storage.Commit([]hostdb.Put{{Key: k, Value: nil}}); err != nil {
		t.Fatal(err)
	}
}

func TestReplicaIsMadeGoodFromItsOwnLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		var mu sync.Mutex // guards docs
		var docs []string
		cfg := Config{Evidence: func(_ string, doc []byte) error {
			mu.Lock()
			defer mu.Unlock()
			docs = append(docs, string(doc))
			return nil
		}}
		ms := mesh(t, f, 2, cfg)
		defer stopAll(ms)
		put(t, ms[0], "web1", "{a: 1}")
		put(t, ms[0], "web2", "{a: 1}")
		time.Sleep(20 * time.Second)
		ms[1].kill()
		spoil(t, ms[1], "web1")
		start(t, f, ms[1], cfg)
		if ms[1].store.View().Exists(hostdb.Hosts, "web1") {
			t.Fatal("nothing was spoilt")
		}
		until(t, "it is made good", func() bool { return ms[1].store.View().Exists(hostdb.Hosts, "web1") })
		time.Sleep(2 * time.Minute)
		equal(t, ms...)
		st := ms[1].replica.Status()
		if st.Counts.Repairs != 1 || st.Verdict != verdictRepairedLog {
			t.Errorf("%d repairs, verdict %q", st.Counts.Repairs, st.Verdict)
		}
		if ms[0].replica.Status().Counts.Repairs != 0 {
			t.Error("the healthy one repaired itself")
		}
		for _, p := range st.Peers {
			if p.Differs {
				t.Errorf("%s is said to differ still", p.Node)
			}
		}
		found := false
		mu.Lock()
		defer mu.Unlock()
		for _, d := range docs {
			var e evidence
			if err := json.Unmarshal([]byte(d), &e); err != nil {
				t.Fatal(err)
			}
			found = found || e.Changed == 1 && len(e.Keys) == 1 && e.Keys[0].Key == "web1" && e.Verdict == verdictRepairedLog
		}
		if !found {
			t.Errorf("no evidence: %s", docs)
		}
	})
}

// A replica whose history is not whole cannot judge itself: the majority of those of its version does.
func TestReplicaIsMadeGoodFromAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 10, MessageBytes: 5000}
		a := loaded(t, f, "a", 100, cfg)
		defer func() { a.stop() }()
		b, c := &member{name: "b"}, &member{name: "c"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		until(t, "b has it all", func() bool { return b.store.Missing() == 0 && b.replica.Synced() })
		f.set(func() {
			f.hook = noHistory
		})
		start(t, f, c, cfg)
		defer func() { c.stop() }()
		until(t, "c is synced", c.replica.Synced)
		c.kill()
		spoil(t, c, "web7")
		start(t, f, c, cfg)
		if c.store.View().Exists(hostdb.Hosts, "web7") || c.store.Missing() == 0 {
			t.Fatal("nothing was spoilt, or history is whole")
		}
		until(t, "it is made good", func() bool { return c.store.View().Exists(hostdb.Hosts, "web7") })
		equal(t, a, b, c)
		if st := c.replica.Status(); st.Verdict != verdictRepairedPeer {
			t.Errorf("verdict %q", st.Verdict)
		}
		// Once more within the hour: only the alarm.
		c.kill()
		spoil(t, c, "web8")
		start(t, f, c, cfg)
		c.replica.mu.Lock()
		c.replica.doubt.repaired = time.Now()
		c.replica.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if c.store.View().Exists(hostdb.Hosts, "web8") || c.replica.Status().Verdict != verdictAgain {
			t.Errorf("repaired twice in an hour: %q", c.replica.Status().Verdict)
		}
	})
}

func TestWithTwoVoicesNothingIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 10, MessageBytes: 5000}
		a := loaded(t, f, "a", 100, cfg)
		defer func() { a.stop() }()
		f.set(func() { f.hook = noHistory })
		c := &member{name: "c"}
		start(t, f, c, cfg)
		defer func() { c.stop() }()
		until(t, "c is synced", c.replica.Synced)
		c.kill()
		spoil(t, c, "web7")
		start(t, f, c, cfg)
		time.Sleep(10 * time.Minute)
		if st := c.replica.Status(); c.store.View().Exists(hostdb.Hosts, "web7") || st.Verdict != verdictTwo || st.Counts.Mismatches == 0 {
			t.Errorf("verdict %q, %d mismatches", st.Verdict, st.Counts.Mismatches)
		}
	})
}

func TestMajority(t *testing.T) {
	v := func(fingerprints ...string) (votes []vote) {
		for i, f := range fingerprints {
			votes = append(votes, vote{fmt.Sprint("n", i), f})
		}
		return votes
	}
	for _, c := range []struct {
		votes   []vote
		want    string
		healthy int
	}{
		{v("x"), verdictTwo, 0},
		{v("x", "x"), verdictRepairedPeer, 2},
		{v("x", "ours"), verdictPeer, 0},
		{v("x", "y"), verdictSplit, 0},
		{v("x", "x", "ours"), verdictSplit, 0},
		{v("x", "x", "x", "ours"), verdictSplit, 0},
		{v("x", "x", "y"), verdictSplit, 0},
		{v("x", "x", "x", "y"), verdictRepairedPeer, 3},
	} {
		if got, healthy := majority("ours", c.votes); got != c.want || len(healthy) != c.healthy {
			t.Errorf("%v: %s with %d, want %s with %d", c.votes, got, len(healthy), c.want, c.healthy)
		}
	}
}

// What is secret does not get into evidence.
func TestEvidenceHidesSecrets(t *testing.T) {
	var e evidence
	e.differences([]hostdb.Difference{
		{NS: hostdb.System, Key: "users", Had: [][]byte{[]byte("secret")}, Has: [][]byte{nil}},
		{NS: hostdb.Hosts, Key: "web1", Had: [][]byte{nil, make([]byte, maxRows+1)}, Has: [][]byte{[]byte("open")}},
	})
	if k := e.Keys[0]; k.Had != nil || len(k.HadSHA256) != 1 || len(k.HadSHA256[0]) != 64 || k.HasSHA256[0] != "" {
		t.Errorf("of a secret: %+v", k)
	}
	if k := e.Keys[1]; len(k.Has) != 1 || k.Has[0] != "6f70656e" || !k.Truncated || k.HadSHA256 != nil {
		t.Errorf("of a host: %+v", k)
	}
}
