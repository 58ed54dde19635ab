package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// TestFirstWritesOfARun: what a run wrote first may be several operations at once, of writers who shared an fsync, or of a time when
// nobody heard it. It is everywhere after a push, and not when repair comes by; and the writers are told who holds it.
func TestFirstWritesOfARun(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("compared=%t", told), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric()
				ms := mesh(t, f, 4, Config{RepairEvery: time.Hour})
				defer stopAll(ms)
				time.Sleep(time.Second)
				writer, pushes := ms[0], map[string]int{}
				f.set(func() {
					f.hook = countPushes(f, pushes)
					for _, m := range ms[1:] {
						f.deaf[[2]string{writer.name, m.name}] = true
					}
				})
				for i := range 5 {
					if c := put(t, writer, fmt.Sprintf("web%d", i), "1"); c.Acks != 1 {
						t.Errorf("%d boxes hold what nobody heard", c.Acks)
					}
				}
				writer.replica.mu.Lock()
				for _, p := range writer.replica.peers {
					p.told = told
				}
				writer.replica.mu.Unlock()
				f.set(func() { clear(f.deaf) })
				time.Sleep(10 * time.Second) // of the pause after what failed
				equal(t, ms...)
				want := 3 // one for each peer
				if !told {
					want = 6 // a guess, and what the answer to it says
				}
				if got := pushes[writer.name]; got > want {
					t.Errorf("%d pushes to three peers, want %d at most", got, want)
				}
			})
		})
	}
	t.Run("at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ms := mesh(t, newFabric(), 4, Config{RepairEvery: time.Hour})
			defer stopAll(ms)
			time.Sleep(time.Second)
			began, commits := time.Now(), make([]hostdb.Commit, 20)
			var wg sync.WaitGroup
			for i := range commits {
				wg.Go(func() { commits[i] = put(t, ms[0], fmt.Sprintf("web%d", i), "1") })
			}
			wg.Wait()
			if d := time.Since(began); d > 50*time.Millisecond {
				t.Errorf("writers waited %s of virtual time for links of 1 ms", d)
			}
			for i, c := range commits {
				if c.Acks < 2 {
					t.Errorf("write %d: acks = %d, want this box and at least one other", i, c.Acks)
				}
			}
			time.Sleep(50 * time.Millisecond)
			equal(t, ms...)
		})
	})
}

// TestEarlyPushesAreSmall: who is empty, and takes the state of another first, is not sent again and again all that was written.
func TestEarlyPushesAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		cfg := Config{RepairEvery: time.Hour, JoinOperations: 2}
		ms := mesh(t, f, 1, cfg)
		for i := range 5 {
			put(t, ms[0], fmt.Sprintf("web%d", i), "1")
		}
		pushes, most := 0, 0
		f.set(func() {
			f.hook = func(_ context.Context, _, _, name string, req []byte, call func() ([]byte, error)) ([]byte, error) {
				if name != pushName {
					return nil, errors.New("nobody is compared in this test")
				}
				var push pushRequest
				if err := decode(req, &push); err != nil {
					t.Error(err)
				}
				pushes, most = pushes+1, max(most, len(push.Ops))
				return call()
			}
		})
		joiner := &member{name: "node001"}
		start(t, f, joiner, cfg)
		ms = append(ms, joiner)
		defer stopAll(ms)
		time.Sleep(time.Minute)
		if pushes < 2 || most != 1 {
			t.Errorf("%d pushes of up to %d operations to an empty peer, want some of one", pushes, most)
		}
		f.set(func() { f.hook = nil })
		time.Sleep(time.Minute)
		equal(t, ms...)
	})
}
