package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

// within runs a call with a deadline.
func within(t *testing.T, d time.Duration, call func(context.Context, string, string, []byte) ([]byte, error), node, name string, req []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return call(ctx, node, name, req)
}

// An urgent request does not wait behind a large answer, an ordinary one does.
func TestUrgentBesideLarge(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2)
		handlers(nodes[1])
		nodes[1].Handle("all", func(context.Context, mesh.Caller, []byte) ([]byte, error) { return make([]byte, 16<<20), nil })
		n.Delay(meshtest.Addr(0), meshtest.Addr(1), 20*time.Millisecond) // 256 KiB each 20 ms: 16 MiB take over a second
		large := make(chan error, 1)
		go func() {
			b, err := nodes[0].Call(t.Context(), meshtest.ID(1), "all", nil)
			if err == nil && len(b) != 16<<20 {
				err = fmt.Errorf("%d bytes", len(b))
			}
			large <- err
		}()
		time.Sleep(300 * time.Millisecond)
		if _, err := within(t, 500*time.Millisecond, nodes[0].Call, meshtest.ID(1), "echo", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the ordinary stream is free: %v", err)
		}
		if got, err := within(t, 300*time.Millisecond, nodes[0].CallUrgent, meshtest.ID(1), "echo", []byte("x")); err != nil || string(got) != "x" {
			t.Errorf("urgent: %q, %v", got, err)
		}
		select {
		case err := <-large:
			t.Fatalf("the large answer was through before: %v", err)
		default:
		}
		if err := <-large; err != nil {
			t.Error(err)
		}
		a, b := nodes[0].Stats(), nodes[1].Stats()
		if a.Urgent.ConnsOut != 1 || b.Urgent.ConnsIn != 1 || a.ConnsOut != 2 || b.ConnsIn != 2 || a.Urgent.CallsOut != 1 || b.Urgent.CallsIn != 1 || a.Urgent.Silent != 0 {
			t.Errorf("stats: %+v, %+v", a, b)
		}
	})
}

// Urgent requests have places of their own, and no more of them.
func TestUrgentPlaces(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2, func(i int, cfg *mesh.Config) { cfg.MaxRequests = 5 })
		handlers(nodes[1])
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		fill := func(call func(context.Context, string, string, []byte) ([]byte, error), from int) {
			for range 5 {
				go func() {
					for ctx.Err() == nil { // the look below takes a place for a moment
						call(ctx, meshtest.ID(1), "wait", nil)
					}
				}()
			}
			meshtest.Eventually(t, "all places are taken", func() bool {
				h, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(1), "waiting", nil)
				return err == nil && string(h) == fmt.Sprint(from+5) || errors.Is(err, mesh.ErrBusy)
			})
		}
		fill(nodes[0].Call, 0)
		for _, from := range nodes { // from elsewhere, and from itself
			if _, err := from.Call(t.Context(), meshtest.ID(1), "echo", nil); !errors.Is(err, mesh.ErrBusy) {
				t.Errorf("ordinary: %v", err)
			}
			if _, err := from.CallUrgent(t.Context(), meshtest.ID(1), "echo", nil); err != nil {
				t.Errorf("urgent: %v", err)
			}
		}
		fill(nodes[0].CallUrgent, 5)
		for _, from := range nodes {
			if _, err := from.CallUrgent(t.Context(), meshtest.ID(1), "echo", nil); !errors.Is(err, mesh.ErrBusy) {
				t.Errorf("urgent, with all places taken: %v", err)
			}
		}
	})
}

// Urgent requests and answers are small.
func TestUrgentTooLarge(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 2)
		handlers(nodes[0])
		handlers(nodes[1])
		nodes[1].Handle("two", func(context.Context, mesh.Caller, []byte) ([]byte, error) { return make([]byte, mesh.MaxUrgent+1), nil })
		nodes[0].Handle("two", func(context.Context, mesh.Caller, []byte) ([]byte, error) { return make([]byte, mesh.MaxUrgent+1), nil })
		for i := range nodes {
			body := bytes.Repeat([]byte("x"), mesh.MaxUrgent)
			if got, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(i), "echo", body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("largest: %d bytes, %v", len(got), err)
			}
			if _, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(i), "echo", append(body, 'x')); !errors.Is(err, mesh.ErrTooLarge) {
				t.Errorf("larger: %v", err)
			}
			if _, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(i), "two", nil); !errors.Is(err, mesh.ErrTooLarge) {
				t.Errorf("larger answer: %v", err)
			}
		}
		// Who sends more than CallUrgent would is cut off.
		to, _ := nodes[0].View().Get(meshtest.ID(1))
		if err := mesh.SendUrgent(t.Context(), nodes[0], to, make([]byte, mesh.MaxUrgent+2000)); !errors.Is(err, mesh.ErrUnreachable) {
			t.Errorf("too large a frame: %v", err)
		}
	})
}

// After a cut urgent requests are answered soon, whether anybody asked meanwhile or not, and whatever gossip saw of it.
func TestUrgentAfterCut(t *testing.T) {
	for _, c := range []struct {
		cut  time.Duration
		busy bool
	}{{30 * time.Second, true}, {30 * time.Second, false}, {1500 * time.Millisecond, true}, {10 * time.Minute, true}} {
		t.Run(fmt.Sprintf("%v busy=%v", c.cut, c.busy), func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				n := meshtest.New(1)
				nodes := meshtest.StartOn(t, n, 3)
				handlers(nodes[1])
				call := func() error {
					_, err := within(t, 500*time.Millisecond, nodes[0].CallUrgent, meshtest.ID(1), "echo", nil)
					return err
				}
				if err := call(); err != nil {
					t.Fatal(err)
				}
				n.Isolate(meshtest.Addr(1))
				for end := time.Now().Add(c.cut); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					if c.busy && call() == nil {
						t.Fatal("the cut is none")
					}
				}
				n.Heal()
				start := time.Now()
				for call() != nil {
					time.Sleep(10 * time.Millisecond)
				}
				d := time.Since(start)
				t.Logf("answered after %v", d)
				if d > 1500*time.Millisecond {
					t.Error("that is too late")
				}
				if s := nodes[0].Stats().Urgent.Silent; c.busy && s != 1 {
					t.Errorf("%d connections were given up", s)
				}
			})
		})
	}
}

// A handler that takes its time, or a deadline that is next to over, costs no connection.
func TestUrgentSlowHandler(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2)
		handlers(nodes[1])
		n.Delay(meshtest.Addr(0), meshtest.Addr(1), 10*time.Millisecond)
		if _, err := within(t, time.Second, nodes[0].CallUrgent, meshtest.ID(1), "echo", nil); err != nil {
			t.Fatal(err)
		}
		for _, d := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 20 * time.Second} {
			if _, err := within(t, d, nodes[0].CallUrgent, meshtest.ID(1), "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v: %v", d, err)
			}
			time.Sleep(time.Second)
		}
		// Nor does a caller that goes.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := nodes[0].CallUrgent(ctx, meshtest.ID(1), "wait", nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if st := nodes[0].Stats().Urgent; st.Silent != 0 || st.ConnsOut != 1 {
			t.Errorf("%+v", st)
		}
		// What waits for nothing goes on while another waits: both are answered over one connection.
		var wg sync.WaitGroup
		var bad atomic.Int32
		for range 200 {
			wg.Go(func() {
				if _, err := within(t, 5*time.Second, nodes[0].CallUrgent, meshtest.ID(1), "echo", nil); err != nil {
					bad.Add(1)
				}
			})
		}
		wg.Wait()
		if st := nodes[0].Stats().Urgent; bad.Load() > 0 || st.ConnsOut != 1 {
			t.Errorf("%d failed, %+v", bad.Load(), st)
		}
	})
}

// A member that does not answer dials is told to be unreachable at once between them; one that is back is found soon.
func TestUrgentMemberGone(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2)
		nodes[1].Close()
		for range 100 {
			start := time.Now()
			if _, err := within(t, 2*time.Second, nodes[0].CallUrgent, meshtest.ID(1), "echo", nil); !errors.Is(err, mesh.ErrUnreachable) {
				t.Fatal(err)
			}
			if d := time.Since(start); d > 1100*time.Millisecond {
				t.Fatalf("told after %v", d)
			}
			time.Sleep(100 * time.Millisecond)
		}
		handlers(meshtest.Run(t, n.Config(1)))
		start := time.Now()
		meshtest.Eventually(t, "it is found", func() bool {
			_, err := within(t, 500*time.Millisecond, nodes[0].CallUrgent, meshtest.ID(1), "echo", nil)
			return err == nil
		})
		if d := time.Since(start); d > time.Second {
			t.Errorf("found after %v", d)
		}
	})
}

// Many urgent streams of one member cost neither its ordinary one nor those of others.
func TestManyUrgentStreams(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 3)
		handlers(nodes[0])
		for _, n := range nodes[1:] {
			if _, err := n.Call(t.Context(), meshtest.ID(0), "echo", nil); err != nil {
				t.Fatal(err)
			}
		}
		to, _ := nodes[1].View().Get(meshtest.ID(0))
		if err := mesh.OpenUrgentStreams(t.Context(), nodes[1], to, 50); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if st := nodes[0].Stats(); st.ConnsIn-st.Urgent.ConnsIn != 2 || st.Urgent.ConnsIn != 8 {
			t.Errorf("%d streams are open, %d of them urgent", st.ConnsIn, st.Urgent.ConnsIn)
		}
	})
}

// formerNetwork lets a node take its streams as the build before lanes did.
type formerNetwork struct {
	mesh.Network
	node chan *mesh.Mesh
}

func (f *formerNetwork) Listen(addr netip.AddrPort) (net.Listener, error) {
	l, err := f.Network.Listen(addr)
	return &formerListener{l, f}, err
}

type formerListener struct {
	net.Listener
	net *formerNetwork
}

func (l *formerListener) Accept() (net.Conn, error) {
	m := <-l.net.node
	defer func() { l.net.node <- m }()
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		go mesh.WelcomeFormer(m, c)
	}
}

// A member of the former release serves urgent requests over an ordinary stream, with its own bounds.
func TestUrgentToFormerRelease(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		former := &formerNetwork{node: make(chan *mesh.Mesh, 1)}
		nodes := []*mesh.Mesh{meshtest.Run(t, n.Config(0))}
		cfg := n.Config(1)
		former.Network = cfg.Network
		cfg.Network, cfg.Join = former, []string{meshtest.Addr(0).String()}
		nodes = append(nodes, meshtest.Run(t, cfg))
		former.node <- nodes[1]
		meshtest.WaitAlive(t, nodes...)
		for _, m := range nodes {
			handlers(m)
			m.Handle("two", func(context.Context, mesh.Caller, []byte) ([]byte, error) { return make([]byte, 2<<20), nil })
		}
		for _, name := range []string{"echo", "whoami"} {
			if _, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(1), name, []byte("x")); err != nil {
				t.Errorf("urgent %s: %v", name, err)
			}
		}
		if _, err := nodes[0].Call(t.Context(), meshtest.ID(1), "echo", nil); err != nil {
			t.Error(err)
		}
		if st := nodes[1].Stats(); st.ConnsIn != 2 || st.Urgent.ConnsIn != 0 || st.Urgent.CallsIn != 0 {
			t.Errorf("it knows of lanes: %+v", st)
		}
		if got, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(1), "two", nil); err != nil || len(got) != 2<<20 {
			t.Errorf("answer of a member that bounds it otherwise: %d bytes, %v", len(got), err)
		}
		// The other way its streams are ordinary.
		if _, err := nodes[1].Call(t.Context(), meshtest.ID(0), "echo", nil); err != nil {
			t.Error(err)
		}
		if st := nodes[0].Stats(); st.ConnsIn != 1 || st.Urgent.ConnsIn != 0 {
			t.Errorf("%+v", st)
		}
	})
}
