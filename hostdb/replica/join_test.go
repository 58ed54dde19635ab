package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// hook lets a test look at, change or refuse calls: it runs in place of the call when it is set.
type hook func(ctx context.Context, from, to, name string, req []byte, call func() ([]byte, error)) ([]byte, error)

// oldError is what a peer of an older build answers to a name it does not know.
type oldError struct{}

func (oldError) Error() string     { return "no such handler" }
func (oldError) ErrorCode() string { return "no_handler" }

// loaded is a member with n operations.
func loaded(t *testing.T, f *fabric, name string, n int, cfg Config) *member {
	t.Helper()
	m := &member{name: name}
	start(t, f, m, cfg)
	for i := range n {
		put(t, m, fmt.Sprintf("web%d", i%200), fmt.Sprintf("{v: %d, text: some words that take a little room}", i))
	}
	return m
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 6000 {
		if cond() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestEmptyReplicaTakesTheStateAndThenHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 100, MessageBytes: 4000}
		a := loaded(t, f, "a", 600, cfg)
		defer func() { a.stop() }()
		b := &member{name: "b"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		until(t, "b is synced", b.replica.Synced)
		c := b.replica.Status().Counts
		if c.JoinPieces == 0 || c.PulledOps > 50 {
			t.Errorf("%d pieces and %d operations were taken: want a state in pieces, and hardly an operation", c.JoinPieces, c.PulledOps)
		}
		equal(t, a, b)
		put(t, a, "later", "1")
		until(t, "history is whole", func() bool { return b.store.Missing() == 0 })
		if st := b.replica.Status(); st.Counts.FilledOps != 600 || st.Join.Pieces == 0 || st.Join.Bytes == 0 || st.Join.Active {
			t.Errorf("filled %d of 600 operations; %+v", st.Counts.FilledOps, st.Join)
		}
		equal(t, a, b)
		if ops, err := b.store.Operations(a.store.Origin(), 0, 1); err != nil || len(ops) == 0 {
			t.Errorf("the first operation is not here: %v", err)
		}
	})
}

func TestSmallReplicaIsTakenOperationByOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		a := loaded(t, f, "a", 50, Config{JoinOperations: 100})
		defer func() { a.stop() }()
		b := &member{name: "b"}
		start(t, f, b, Config{JoinOperations: 100})
		defer func() { b.stop() }()
		until(t, "b is synced", b.replica.Synced)
		if c := b.replica.Status().Counts; c.JoinPieces != 0 { // what a pushed at first, b need not pull
			t.Errorf("%d pieces, %d operations", c.JoinPieces, c.PulledOps)
		}
		equal(t, a, b)
	})
}

// A join goes on where it was after the joiner's own kill -9, at another peer of the same version.
func TestJoinResumesAfterKillAtAnotherPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 100, MessageBytes: 2000}
		a := loaded(t, f, "a", 400, cfg)
		defer func() { a.stop() }()
		c := &member{name: "c"}
		start(t, f, c, cfg)
		defer c.stop()
		until(t, "c has it all", func() bool { return c.store.Missing() == 0 && c.replica.Synced() })
		equal(t, a, c)
		f.set(func() { f.cut[[2]string{"b", "c"}] = true })
		pieces := 0
		f.set(func() {
			f.hook = func(_ context.Context, from, _, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
				if from == "b" && name == stateName {
					if pieces++; pieces > 5 {
						return nil, errors.New("the connection broke")
					}
				}
				return call()
			}
		})
		b := &member{name: "b"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		until(t, "some pieces are there", func() bool { return b.replica.Status().Join.Pieces == 5 })
		b.kill()
		f.set(func() {
			f.hook = nil
			clear(f.cut)
			f.cut[[2]string{"a", "b"}] = true
		})
		start(t, f, b, cfg)
		if j, ok := b.store.Joining(); !ok || j.After == "" {
			t.Fatalf("nothing is left of the join: %+v", j)
		}
		until(t, "b is synced", b.replica.Synced)
		if n, all := b.replica.Status().Counts.JoinPieces, c.replica.Status().Counts.JoinPieces; n != all-5 {
			t.Errorf("%d pieces were taken after 5 of %d", n, all)
		}
		equal(t, a, b, c)
	})
}

// When nobody has the version any more that was begun, the join begins again.
func TestJoinBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 100, MessageBytes: 2000}
		a := loaded(t, f, "a", 300, cfg)
		defer func() { a.stop() }()
		asked := 0
		f.set(func() {
			f.hook = func(_ context.Context, from, _, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
				if from == "b" && name == stateName {
					asked++
					if asked > 3 {
						return nil, errors.New("the connection broke")
					}
				}
				return call()
			}
		})
		b := &member{name: "b"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		until(t, "some pieces are there", func() bool { return b.replica.Status().Join.Pieces == 3 })
		put(t, a, "web1", "{v: new}")
		time.Sleep(2 * pinFor)
		put(t, a, "web2", "{v: new}")
		f.set(func() { f.hook = nil })
		until(t, "b is synced", b.replica.Synced)
		equal(t, a, b)
	})
}

// A state that does not match its digests is dropped, with an alarm, and taken from another peer.
func TestStateWithWrongDigestsIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 100, MessageBytes: 20000}
		a := loaded(t, f, "a", 300, cfg)
		defer func() { a.stop() }()
		c := &member{name: "c"}
		start(t, f, c, cfg)
		defer c.stop()
		until(t, "c has it all", func() bool { return c.store.Missing() == 0 && c.replica.Synced() })
		lied := false
		f.set(func() {
			f.hook = func(_ context.Context, from, to, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
				back, err := call()
				if to == "a" && name == stateName && err == nil {
					var answer stateAnswer
					if err := decode(back, &answer); err != nil {
						return nil, err
					}
					for ns := range answer.Digests {
						answer.Digests[ns] = "00"
						lied = true
					}
					return encode(answer)
				}
				return back, err
			}
		})
		var members []*member
		for !lied { // who is asked first is chance
			b := &member{name: fmt.Sprintf("b%d", len(members))}
			start(t, f, b, cfg)
			members = append(members, b)
			until(t, "b is synced", b.replica.Synced)
		}
		defer stopAll(members)
		last := members[len(members)-1]
		if last.replica.Status().Counts.JoinFailures == 0 {
			t.Error("nothing was counted")
		}
		equal(t, append(members, a, c)...)
	})
}

// Nobody holds the beginning of history any more: that is believed when all who are alive say so, and not while this node doubts
// itself.
func TestHistoryThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		var sick atomic.Bool
		sick.Store(true)
		cfg := Config{JoinOperations: 100, MessageBytes: 4000}
		a := loaded(t, f, "a", 200, cfg)
		defer func() { a.stop() }()
		f.set(func() {
			f.hook = func(_ context.Context, _, _, name string, req []byte, call func() ([]byte, error)) ([]byte, error) {
				var ask historyRequest
				if name == historyName && decode(req, &ask) == nil && ask.Until <= 50 {
					return encode(historyAnswer{Protocol: protocol, Gone: true})
				}
				return call()
			}
		})
		cfg.Sick = sick.Load
		b := &member{name: "b"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		time.Sleep(5 * time.Minute)
		if b.store.Missing() == 0 {
			t.Error("what a peer said was believed although this node doubts itself")
		}
		sick.Store(false)
		until(t, "the hole is closed", func() bool { return len(b.store.Holes()) == 0 })
		if _, err := b.store.Operations(a.store.Origin(), 60, 1); err != nil {
			t.Errorf("what was there is not here: %v", err)
		}
	})
}

// While a replica is empty and has not compared with anybody, it takes no single operation: it may have to take a state.
func TestPushDoesNotSpoilAJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 100, RepairEvery: 2 * time.Second}
		a := loaded(t, f, "a", 200, cfg)
		defer func() { a.stop() }()
		f.set(func() {
			f.hook = func(_ context.Context, from, _, _ string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
				if from == "b" {
					return nil, errors.New("b reaches nobody")
				}
				return call()
			}
		})
		b := &member{name: "b"}
		start(t, f, b, cfg)
		defer func() { b.stop() }()
		c := &member{name: "c"}
		start(t, f, c, cfg)
		defer c.stop()
		until(t, "c is synced", c.replica.Synced)
		put(t, c, "fresh", "1") // the first operation of a run: nothing is missing before it
		time.Sleep(10 * time.Second)
		if b.store.View().Applied() != 0 {
			t.Error("an empty replica took a push before it knew what it lacks")
		}
		f.set(func() { f.hook = nil })
		until(t, "b is synced", b.replica.Synced)
		until(t, "all is there", func() bool { return b.store.View().Version().String() == a.store.View().Version().String() })
		if b.replica.Status().Counts.JoinPieces == 0 {
			t.Error("no state was taken")
		}
	})
}

// Thousands may ask at once: a few are served, the others are told when to come again, and all get there.
func TestManyJoinersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{JoinOperations: 50, MessageBytes: 4000, BytesPerSecond: 100_000, Fanout: 8}
		a := loaded(t, f, "a", 200, cfg)
		defer func() { a.stop() }()
		began := time.Now()
		before := a.replica.Status().Counts
		var ms []*member
		for i := range 40 {
			m := &member{name: fmt.Sprintf("b%02d", i)}
			start(t, f, m, cfg)
			ms = append(ms, m)
		}
		defer stopAll(ms)
		for _, m := range ms {
			until(t, m.name+" is synced", m.replica.Synced)
		}
		equal(t, append(ms, a)...)
		c := a.replica.Status().Counts
		pieces := float64(c.ServedPieces-before.ServedPieces) * 4000
		if allowed := (time.Since(began).Seconds() + 3) * 100_000; pieces > allowed {
			t.Errorf("about %.0f bytes of state were sent, %.0f allowed", pieces, allowed)
		}
		if c.Busy == 0 {
			t.Error("nobody was turned away")
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1000)
		if n, wait := b.ask(400); n != 400 || wait != 0 {
			t.Errorf("a full bucket gives %d, wait %s", n, wait)
		}
		b.spend(1500) // one large message overdraws
		if n, wait := b.ask(100); n != 0 || wait < 590*time.Millisecond || wait > 610*time.Millisecond {
			t.Errorf("overdrawn by 500 it gives %d, and says %s", n, wait)
		}
		time.Sleep(time.Hour)
		if n, _ := b.ask(5000); n != 1000 {
			t.Errorf("it holds %d after an hour", n)
		}
	})
}

var _ hostdb.Clock = skewed{}
