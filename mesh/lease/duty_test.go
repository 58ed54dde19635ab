package lease

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/mesh/meshtest"
)

func TestADutyHasAHolder(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		h := c.campaign("mirror", 0, 1, 2)
		first := h.holder()
		e, err := within(func(ctx context.Context) (Explanation, error) { return c.nodes[2].l().Explain(ctx, "mirror") })
		if err != nil {
			t.Fatal(err)
		}
		if e.Status.Node != meshtest.ID(first) || len(e.Ranks) != 3 || e.Status.Why == "" {
			t.Errorf("%+v", e)
		}
		if _, err := within(func(ctx context.Context) (Explanation, error) { return c.nodes[1].l().Explain(ctx, "nothing") }); !errors.Is(err, ErrNotFound) {
			t.Errorf("a duty that nobody knows is explained: %v", err)
		}
		list, err := within(c.nodes[1].l().Duties)
		if err != nil || len(list) != 1 || list[0].Candidates != 3 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestAHolderThatDiesIsFollowed(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		c.voting(3)
		h := c.campaign("vip/10.0.0.1", 0, 1, 2, 3, 4)
		for range 3 {
			at := h.holder()
			died := time.Now()
			c.kill(at)
			next := h.holder(c.others(at)...)
			if took := h.last.Sub(died); took > 5*time.Second {
				t.Errorf("the next holder acts after %s", took)
			}
			_ = next
			c.revive(at)
			h.add(at)
			c.voting(3)
		}
	})
}

func TestHolderAndLeaderDieTogether(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		h := c.campaign("vip/10.0.0.1", c.others(c.voting(3)...)...) // two voters must be left
		at := h.holder()
		lead := c.leader()
		died := time.Now()
		c.kill(at)
		if lead != at {
			c.kill(lead)
		}
		h.holder(c.others(at, lead)...)
		if took := h.last.Sub(died); took > 5*time.Second {
			t.Errorf("the next holder acts after %s", took)
		}
	})
}

func TestTheLeaderHoldsNothingWhileOthersCan(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2)
		c.eventually("the leader holds nothing", func() error {
			if at := h.holder(); at == c.leader() {
				return errors.New("it does")
			}
			return nil
		})
		h.mu.Lock()
		cancels := h.ctx
		h.mu.Unlock()
		for i, stop := range cancels {
			if i != c.leader() {
				stop()
			}
		}
		h.holder(c.leader())
	})
}

func TestHandOver(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2, 3)
		at := h.holder()
		to := c.others(at, c.leader())[0]
		began := time.Now()
		s, err := within(func(ctx context.Context) (Status, error) { return c.nodes[at].l().Move(ctx, "mirror", meshtest.ID(to)) })
		if err != nil {
			t.Fatal(err)
		}
		if got := h.holder(to); s.Node != meshtest.ID(got) {
			t.Errorf("%+v", s)
		}
		if took := h.last.Sub(began); took > 100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if _, err := within(func(ctx context.Context) (Status, error) { return c.nodes[at].l().Move(ctx, "mirror", "nobody") }); !errors.Is(err, ErrIneligible) {
			t.Errorf("moved to a node that is not there: %v", err)
		}
	})
}

func TestDrain(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2, 3)
		at := h.holder()
		other := c.others(at)[0]
		_, err := within(func(ctx context.Context) (any, error) {
			return nil, c.nodes[other].l().Drain(ctx, meshtest.ID(at), "root", "a new fan")
		})
		if err != nil {
			t.Fatal(err)
		}
		h.holder(c.others(at)...)
		c.voting(3, at)
		e, err := within(func(ctx context.Context) (Explanation, error) { return c.nodes[other].l().Explain(ctx, "mirror") })
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range e.Ranks {
			if r.Node == meshtest.ID(at) && (r.Class != classNames[classIneligible] || r.Reason != "it is drained: a new fan") {
				t.Errorf("%+v", r)
			}
		}
		if _, err := within(func(ctx context.Context) (any, error) { return nil, c.nodes[other].l().Undrain(ctx, meshtest.ID(at)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := within(func(ctx context.Context) (any, error) { return nil, c.nodes[other].l().Undrain(ctx, meshtest.ID(at)) }); !errors.Is(err, ErrNotFound) {
			t.Errorf("undrained twice: %v", err)
		}
	})
}

func TestAHolderThatIsCutOffStops(t *testing.T) {
	inCluster(t, 5, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2, 3, 4)
		at := h.holder()
		h.mu.Lock()
		g := h.now[len(h.now)-1].g
		h.mu.Unlock()
		began := time.Now()
		c.split([]int{at}, c.others(at))
		<-g.Context().Done()
		if took := time.Since(began); took > c.times.Hold+100*time.Millisecond {
			t.Errorf("it stops after %s", took)
		}
		if cause := context.Cause(g.Context()); !errors.Is(cause, ErrExpired) || g.Valid() {
			t.Errorf("%v, valid: %v", cause, g.Valid())
		}
		h.holder(c.others(at)...)
		c.heal()
	})
}

func TestOneWayCuts(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(c *cluster, at int)
	}{
		{"it hears nobody", func(c *cluster, at int) { c.deafen(at, c.others(at)...) }},
		{"nobody hears it", func(c *cluster, at int) {
			for _, o := range c.others(at) {
				c.deafen(o, at)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inCluster(t, 5, func(cl *cluster) {
				cl.voting(3)
				h := cl.campaign("mirror", 0, 1, 2, 3, 4)
				at := h.holder()
				c.cut(cl, at)
				h.holder(cl.others(at)...)
				cl.heal()
				lead := cl.leader()
				if lead < 0 {
					t.Fatal("nobody leads")
				}
				c.cut(cl, lead)
				cl.eventually("another leads", func() error {
					for _, i := range cl.others(lead) {
						if cl.nodes[i].l().server.leading() != nil {
							return nil
						}
					}
					return errors.New("nobody")
				})
				h.holder(cl.others(lead)...)
			})
		})
	}
}

// unheard is a mesh whose answers to what is asked of the leader get lost at times, while the questions arrive, again and again: so does a path
// that drops what is long, or what takes long.
type unheard struct {
	Mesh
	deaf atomic.Bool

	mu   sync.Mutex // guards sent
	sent []func(ctx context.Context)
}

func (u *unheard) CallUrgent(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	if name != callAsk || !u.deaf.Load() {
		return u.Mesh.CallUrgent(ctx, node, name, req)
	}
	send := func(ctx context.Context) { _, _ = u.Mesh.CallUrgent(ctx, node, name, req) }
	u.mu.Lock()
	u.sent = append(u.sent, send)
	u.mu.Unlock()
	send(ctx)
	<-ctx.Done()
	return nil, ctx.Err()
}

// repeat sends what was sent while it was deaf once more.
func (u *unheard) repeat(ctx context.Context) {
	u.mu.Lock()
	sent := slices.Clone(u.sent)
	u.mu.Unlock()
	for _, send := range sent {
		send(ctx)
	}
}

// TestAHolderThatIsNotAnswered stops by itself, and goes on sending: the leader hears that it has stopped, and what it sent before is as good as never
// sent, should it come late.
func TestAHolderThatIsNotAnswered(t *testing.T) {
	paths := map[int]*unheard{}
	inCluster(t, 5, func(c *cluster) {
		c.voting(3)
		h := c.campaign("vip/10.0.0.1", 0, 1, 2, 3, 4)
		for range 3 {
			c.eventually("the leader holds nothing", func() error {
				if h.holder() == c.leader() {
					return errors.New("it does")
				}
				return nil
			})
			at := h.holder()
			u := paths[at]
			began := time.Now()
			u.deaf.Store(true)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					time.Sleep(300 * time.Millisecond)
					u.repeat(ctx)
				}
			}()
			h.holder(c.others(at)...)
			if took := h.last.Sub(began); took > c.times.Session+500*time.Millisecond {
				t.Errorf("the next holder acts after %s", took)
			}
			u.deaf.Store(false)
			// It is a candidate again, whatever arrives late.
			c.eventually("the duty is given back", func() error {
				_, err := within(func(ctx context.Context) (Status, error) {
					return c.nodes[at].l().Move(ctx, "vip/10.0.0.1", meshtest.ID(at))
				})
				return err
			})
			h.holder(at)
			cancel()
			<-done
			u.mu.Lock()
			u.sent = nil
			u.mu.Unlock()
			time.Sleep(10 * time.Second)
		}
	}, func(c *cluster) {
		c.over = func(i int, m Mesh) Mesh {
			paths[i] = &unheard{Mesh: m}
			return paths[i]
		}
	})
}

// TestOnlyItsNodeEndsASession: nobody else's word ends one, and a session that is not over is not shortened.
func TestOnlyItsNodeEndsASession(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2)
		c.eventually("the leader holds nothing", func() error {
			if h.holder() == c.leader() {
				return errors.New("it does")
			}
			return nil
		})
		at := h.holder()
		h.mu.Lock()
		count, session := h.count, h.now[len(h.now)-1].g.session.id
		h.mu.Unlock()
		other := c.others(at, c.leader())[0]
		l := c.nodes[other].l()
		for range 10 {
			_, err := within(func(ctx context.Context) (answer, error) {
				return l.client.ask(ctx, &asking{Renew: &renewing{Session: meshtest.ID(7), Idle: true, Over: []string{session}}}, untilDone)
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.count != count {
			t.Errorf("the duty moved by the word of another node")
		}
	})
}

// TestALeaderThatWasAway: its clock leaps, as after sleep, and it ends no session that it could not hear of.
func TestALeaderThatWasAway(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2)
		c.eventually("the leader holds nothing", func() error {
			if h.holder() == c.leader() {
				return errors.New("it does")
			}
			return nil
		})
		h.mu.Lock()
		count := h.count
		h.mu.Unlock()
		c.nodes[c.leader()].clock.off.Add(int64(time.Minute))
		time.Sleep(10 * time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.count != count {
			t.Errorf("the duty moved although its holder was well")
		}
	})
}

// TestAHoldersClockLeaps: forwards, it stops too early; backwards, not too late.
func TestAHoldersClockLeaps(t *testing.T) {
	for _, leap := range []time.Duration{time.Minute, -time.Minute} {
		t.Run(leap.String(), func(t *testing.T) {
			inCluster(t, 4, func(c *cluster) {
				c.voting(3)
				h := c.campaign("mirror", 0, 1, 2, 3)
				at := h.holder()
				c.nodes[at].clock.off.Add(int64(leap))
				c.split([]int{at}, c.others(at))
				h.holder(c.others(at)...) // begin checks that the former one does not act any more
			})
		})
	}
}

func TestAHolderThatFailsMakesRoom(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.voting(3)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		bad := c.others(c.leader())[0]
		ran := make(chan struct{}, 100)
		done := make(chan struct{})
		l := c.nodes[bad].l()
		go func() {
			defer close(done)
			_ = l.Campaign(ctx, "mirror", func(context.Context, *Grant) error {
				ran <- struct{}{}
				return errors.New("no such program")
			})
		}()
		<-ran
		c.eventually("it says why", func() error {
			e, err := within(func(ctx context.Context) (Explanation, error) { return c.nodes[0].l().Explain(ctx, "mirror") })
			if err != nil {
				return err
			}
			if len(e.Ranks) != 1 || e.Ranks[0].Reason != "no such program" {
				return errors.New("no reason")
			}
			return nil
		})
		h := c.campaign("mirror", c.others(bad)...)
		h.holder()
		cancel()
		<-done
	})
}

// TestStoppingInOrder: the next holder does not wait for a session to end, nor for an election.
func TestStoppingInOrder(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.voting(3)
		h := c.campaign("mirror", 0, 1, 2, 3)
		for range 2 {
			at := h.holder()
			began := time.Now()
			c.nodes[at].shut()
			h.holder(c.others(at)...)
			if took := h.last.Sub(began); took > 500*time.Millisecond {
				t.Errorf("the next holder acts after %s", took)
			}
			c.revive(at)
			h.add(at)
			c.voting(3)
		}
	})
}

// TestABuildThatKnowsNoFormerSessions reads a renewal that names some, and one that knows them reads a renewal that names none.
func TestABuildThatKnowsNoFormerSessions(t *testing.T) {
	var old struct {
		Session string `cbor:"1,keyasint"`
		Idle    bool   `cbor:"8,keyasint,omitempty"`
	}
	b := must(encoding.Marshal(renewing{Session: meshtest.ID(1), Idle: true, Over: []string{meshtest.ID(2)}}))
	if err := decoding.Unmarshal(b, &old); err != nil || old.Session != meshtest.ID(1) || !old.Idle {
		t.Errorf("%+v, %v", old, err)
	}
	var r renewing
	if err := decoding.Unmarshal(must(encoding.Marshal(old)), &r); err != nil || r.Session != meshtest.ID(1) || r.Over != nil {
		t.Errorf("%+v, %v", r, err)
	}
}
