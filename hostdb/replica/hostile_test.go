package replica

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// answering has everything that a peer is asked by name answered with what it makes of the true answer.
func answering[A any](t *testing.T, name, liar string, change func(*A)) hook {
	return func(_ context.Context, _, to, asked string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
		back, err := call()
		if err != nil || to != liar || asked != name {
			return back, err
		}
		answer := new(A)
		if err := decoding.Unmarshal(back, answer); err != nil {
			t.Error(err)
			return nil, err
		}
		change(answer)
		return encode(answer)
	}
}

// Whatever one peer answers, the others still agree, nothing overflows, and the calls stay few.
func TestLiarHarmsNobody(t *testing.T) {
	foreign := runOf(t, &member{name: "z"}, 3)
	huge := make([]shortHead, 0, 1000)
	for i := range 1000 {
		huge = append(huge, shortHead{uint64(i + 1), ^uint64(0) - uint64(i), 7})
	}
	many := make([]byte, (maxOrigins+1)*packedHead)
	for what, change := range map[string]func(*pullAnswer){
		"operations that nobody asked for": func(a *pullAnswer) { a.Ops = foreign },
		"garbage for operations":           func(a *pullAnswer) { a.Ops = [][]byte{{1}, nil, []byte("x")} },
		"endless more":                     func(a *pullAnswer) { a.More = true },
		"seqs near 2^64":                   func(a *pullAnswer) { a.All, a.Heads, a.Version, a.Held = true, packHeads(huge), "lie", ^uint64(0) },
		"a million origins":                func(a *pullAnswer) { a.Heads = many },
		"heads out of order":               func(a *pullAnswer) { a.Heads = packHeads([]shortHead{{5, 1, 1}, {4, 1, 1}}) },
		"everything is gone":               func(a *pullAnswer) { a.Gone = []uint64{1, 2, 3} },
		"busy for ever":                    func(a *pullAnswer) { a.Busy, a.RetryMS = true, -1 },
		"an impossible clock":              func(a *pullAnswer) { a.Wall = -1 << 63 },
		"another protocol":                 func(a *pullAnswer) { a.Protocol = 1 << 30 },
		"an old vector":                    func(a *pullAnswer) { a.Protocol = 0; a.Vector = map[uint64]uint64{1: ^uint64(0), 2: 1}; a.More = true },
		"digests of nothing":               func(a *pullAnswer) { a.Digests = map[string]string{"hosts": "lie"} },
		"a floor of the far future":        func(a *pullAnswer) { a.Floor = ^hostdb.Time(0) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric()
				f.hook = answering(t, pullName, "node001", change)
				ms := mesh(t, f, 3, Config{})
				defer stopAll(ms)
				put(t, ms[0], "web1", "1")
				put(t, ms[2], "web2", "1")
				time.Sleep(time.Second)
				before := f.total()
				time.Sleep(time.Minute)
				if n := f.total() - before; n > 700 {
					t.Errorf("%d calls in a minute", n)
				}
				put(t, ms[1], "web3", "1")
				time.Sleep(10 * time.Second)
				equal(t, ms[0], ms[2])
				if v := ms[0].store.View(); !v.Exists(hostdb.Hosts, "web2") || !v.Exists(hostdb.Hosts, "web3") {
					t.Error("a liar holds back honest writes")
				}
				st := ms[0].replica.Status()
				if origin := ms[0].store.Origin(); ms[0].replica.HeldElsewhere(origin) > 1 {
					t.Errorf("more is held elsewhere than there is: %d", ms[0].replica.HeldElsewhere(origin))
				}
				if len(st.Clocks.Peers) > 2 {
					t.Error("too many clocks")
				}
			})
		})
	}
}

func (f *fabric) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		n += c
	}
	return n
}

func TestVectorOfAMillionOriginsIsRefused(t *testing.T) {
	vector := make(map[uint64]uint64, 1_000_000)
	for i := range uint64(1_000_000) {
		vector[i+1] = 1
	}
	body, err := encode(pullRequest{Vector: vector})
	if err != nil {
		t.Fatal(err)
	}
	ms := mesh(t, newFabric(), 1, Config{})
	defer stopAll(ms)
	if _, err := ms[0].replica.servePull(t.Context(), "x", body); err == nil {
		t.Error("it was answered")
	}
	if ms[0].replica.Status().Counts.Refused == 0 {
		t.Error("it was not counted")
	}
}

// Pieces that do not go on would never end.
func TestPiecesOutOfOrderAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 10, MessageBytes: 2000}
		a := loaded(t, f, "a", 100, cfg)
		defer func() { a.stop() }()
		c := &member{name: "c"}
		start(t, f, c, cfg)
		defer c.stop()
		until(t, "c has it all", func() bool { return c.replica.Synced() && c.store.Missing() == 0 })
		f.set(func() {
			f.hook = answering(t, stateName, "a", func(s *stateAnswer) {
				if len(s.Last) > 0 {
					s.Last = []byte("khosts\x00web1")
				}
			})
		})
		b := &member{name: "b"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		until(t, "b is synced", b.replica.Synced)
		equal(t, a, b, c)
	})
}

func TestFurther(t *testing.T) {
	ordered := []string{"", "khosts\x00a", "ehosts\x00a\x00m1", "ehosts\x00a\x00m2", "khosts\x00b", "ktags\x00a", "etags\x00a\x00x"}
	for i := range ordered {
		for j := 1; j < len(ordered); j++ {
			if got := further(ordered[j], ordered[i]); got != (j > i) {
				t.Errorf("%q after %q: %v", ordered[j], ordered[i], got)
			}
		}
	}
	if further("k", "khosts\x00a") {
		t.Error("a place without a name goes on")
	}
}
