package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"hostmesh/mesh/lease/leasetest"
)

// TestRecordsAreLinearizable has clients at all nodes read and replace records while nodes die, cuts come and go, clocks leap and voters are
// replaced, and checks that there is one order of all that explains what each saw. HOSTMESH_LEASE_HISTORY=20m makes it longer, of virtual time.
func TestRecordsAreLinearizable(t *testing.T) {
	length := 90 * time.Second
	if text := os.Getenv("HOSTMESH_LEASE_HISTORY"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(1)
	if text := os.Getenv("HOSTMESH_LEASE_SEED"); text != "" {
		fmt.Sscan(text, &seed)
	}
	for part := range int((length + 90*time.Second - 1) / (90 * time.Second)) {
		t.Run(fmt.Sprintf("seed %d", seed+uint64(part)), func(t *testing.T) { recordsUnderFaults(t, seed+uint64(part), 90*time.Second) })
	}
}

func recordsUnderFaults(t *testing.T, seed uint64, length time.Duration) {
	const keys = 4
	inCluster(t, 6, func(c *cluster) {
		c.voting(3)
		var holding []*holders
		for d := range 3 {
			holding = append(holding, c.campaign(fmt.Sprintf("duty%d", d), 0, 1, 2, 3, 4, 5))
		}
		ctx, cancel := context.WithCancel(context.Background())
		var (
			wg      sync.WaitGroup
			mu      sync.Mutex
			history []porcupine.Operation
		)
		versions := leasetest.Versions{} // under mu
		began := time.Now()
		note := func(client int, in leasetest.Call, out leasetest.Seen, from, to time.Time) {
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{
				ClientId: client, Input: in, Output: out, Call: from.Sub(began).Nanoseconds(), Return: to.Sub(began).Nanoseconds(),
			})
		}
		for client := range 12 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(client)))
				known := map[string]uint64{}
				for n := 0; ctx.Err() == nil; n++ {
					l := c.nodes[client%6].l()
					key := fmt.Sprintf("k%d", rng.IntN(keys))
					limit, stop := context.WithTimeout(ctx, 4*time.Second)
					from := time.Now()
					if rng.IntN(2) == 0 {
						r, err := l.Get(limit, key)
						if err == nil || errors.Is(err, ErrNotFound) {
							note(client, leasetest.Call{Key: key}, leasetest.Seen{Value: string(r.Value), Version: r.Version}, from, time.Now())
							known[key] = r.Version
							if err == nil {
								mu.Lock()
								versions[string(r.Value)] = r.Version
								mu.Unlock()
							}
						}
					} else {
						in := leasetest.Call{Kind: leasetest.Put, Key: key, Value: fmt.Sprintf("%d.%d.%d", seed, client, n), Version: known[key]}
						v, err := l.Put(limit, key, []byte(in.Value), in.Version)
						switch {
						case err == nil:
							note(client, in, leasetest.Seen{OK: true, Version: v}, from, time.Now())
							known[key] = v
						case errors.Is(err, ErrConflict):
							note(client, in, leasetest.Seen{}, from, time.Now())
						case errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrUnknown):
							// nothing was done
						default:
							note(client, in, leasetest.Seen{Unknown: true}, from, began.Add(length+time.Hour)) // it may happen at any later time
						}
					}
					stop()
					time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
			})
		}
		c.torment(seed, length, holding)
		cancel()
		wg.Wait()
		for _, h := range holding {
			h.holder()
			if h.count < 2 {
				t.Errorf("%s had %d holders", h.duty, h.count)
			}
		}
		// The checker runs outside of virtual time.
		mu.Lock()
		defer mu.Unlock()
		if res := porcupine.CheckOperationsTimeout(leasetest.Records(versions), history, time.Hour); res != porcupine.Ok {
			t.Errorf("seed %d: %d operations: %s", seed, len(history), res)
		}
		written, unknown := 0, 0
		for _, o := range history {
			if out := o.Output.(leasetest.Seen); out.OK {
				written++
			} else if out.Unknown {
				unknown++
			}
		}
		if written < 20 {
			t.Errorf("only %d writes came through", written)
		}
		total := 0
		for _, h := range holding {
			h.mu.Lock()
			total += h.count
			if res := porcupine.CheckOperationsTimeout(leasetest.Duty(), h.history, time.Hour); res != porcupine.Ok {
				t.Errorf("seed %d: %s: %d events: %s", seed, h.duty, len(h.history), res)
			}
			h.mu.Unlock()
		}
		t.Logf("seed %d: %d operations, %d written, %d unknown; %d grants", seed, len(history), written, unknown, total)
	})
}

// TestTheCheckersSee has a group whose leader gives duties away before their holders stop: the checks must tell.
func TestTheCheckersSee(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2, 3, 4)
		h.expected = true
		seen := func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.violations) > 0
		}
		for i := 0; i < 20 && !seen(); i++ {
			at := h.holder()
			c.split([]int{at}, c.others(at))
			h.holder(c.others(at)...)
			time.Sleep(100 * time.Millisecond)
			c.heal()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.violations) == 0 {
			t.Error("two held it, and nobody saw it")
		}
		if res := porcupine.CheckOperationsTimeout(leasetest.Duty(), h.history, time.Hour); res == porcupine.Ok {
			t.Error("the history is called linearizable")
		}
	}, func(c *cluster) { c.times.Session, c.times.Hold = c.times.Hold, c.times.Session+2*time.Second })
}

// torment breaks things for so long, one after the other and sometimes two at a time, and heals all at the end.
func (c *cluster) torment(seed uint64, length time.Duration, holding []*holders) {
	rng := rand.New(rand.NewPCG(seed, 99))
	pick := func() int { return rng.IntN(len(c.nodes)) }
	dead := -1
	for end := time.Now().Add(length); time.Now().Before(end); {
		switch what := rng.IntN(7); what {
		case 0: // the leader is cut off
			if i := c.leader(); i >= 0 {
				c.split([]int{i}, c.others(i))
			}
		case 1: // two halves
			a := rng.IntN(3) + 1
			var side []int
			for i := range a {
				side = append(side, (i+pick())%len(c.nodes))
			}
			c.split(side, c.others(side...))
		case 2:
			i := pick()
			c.deafen(i, c.others(i)...)
		case 3:
			i := pick()
			for _, o := range c.others(i) {
				c.deafen(o, i)
			}
		case 4: // a node dies, the leader as often as any other
			if dead < 0 {
				dead = pick()
				if i := c.leader(); i >= 0 && rng.IntN(2) == 0 {
					dead = i
				}
				c.kill(dead)
			}
		case 5:
			c.nodes[pick()].clock.off.Add(int64(time.Duration(rng.IntN(20)-5) * time.Second))
		case 6:
			i, o := pick(), pick()
			limit, stop := context.WithTimeout(context.Background(), time.Second)
			_, _ = c.nodes[i].l().Move(limit, holding[0].duty, c.nodes[o].l().cfg.NodeID)
			stop()
		}
		time.Sleep(time.Duration(rng.IntN(6000)) * time.Millisecond)
		if rng.IntN(2) == 0 {
			c.heal()
		}
		if dead >= 0 && rng.IntN(2) == 0 {
			c.heal()
			c.revive(dead)
			for _, h := range holding {
				h.add(dead)
			}
			dead = -1
		}
		time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
	}
	c.heal()
	if dead >= 0 {
		c.revive(dead)
		for _, h := range holding {
			h.add(dead)
		}
	}
}
