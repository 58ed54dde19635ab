package mesh_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

// The contract of a mesh, over the real network and the one in memory.
func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		meshtest.Bubble(t, func(t *testing.T) {
			n := meshtest.New(1)
			conformance(t, n.Config)
		})
	})
	t.Run("sockets", func(t *testing.T) {
		before := goleak.IgnoreCurrent()
		t.Cleanup(func() { goleak.VerifyNone(t, before) })
		conformance(t, loopback(t))
	})
}

// loopback returns configurations on real sockets, at loopback addresses of the test's own.
func loopback(t *testing.T) func(i int) mesh.Config {
	var b [2]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	n := meshtest.New(1)
	return func(i int) mesh.Config {
		cfg := n.Config(i)
		cfg.Addr = netip.AddrFrom4([4]byte{127, b[0] | 1, b[1], byte(i + 1)})
		cfg.Network = nil
		return cfg
	}
}

func conformance(t *testing.T, config func(i int) mesh.Config) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nodes := make([]*mesh.Mesh, 3)
	for i := range nodes {
		cfg := config(i)
		if i > 0 {
			cfg.MeshID = "" // learned
			cfg.Join = []string{config(0).Addr.String()}
		}
		cfg.Datacenter, cfg.Rack = "dc1", fmt.Sprintf("r%d", i)
		cfg.MaxFrame = 4 << 20
		nodes[i] = meshtest.Run(t, cfg)
		handlers(nodes[i])
	}
	a, b := nodes[0], nodes[1]
	idB := b.View().Self().ID
	meshtest.WaitAlive(t, nodes...)
	if m, ok := a.View().Get(idB); !ok || m.Name != "node2" || m.Rack != "r1" || m.Addr != b.View().Self().Addr || m.StreamPort != 7947 || m.GossipPort != 7946 {
		t.Errorf("b as a sees it: %+v", m)
	}

	// A port in use is told, with the remedy.
	second := config(0)
	second.NodeID = meshtest.ID(50)
	if _, err := mesh.Open(second); err == nil || !errors.Is(err, syscall.EADDRINUSE) && !strings.Contains(err.Error(), "--addr") {
		t.Errorf("second node at one address: %v", err)
	}

	// Calls, there and back, and to itself.
	for _, to := range []*mesh.Mesh{b, a} {
		id := to.View().Self().ID
		got, err := a.Call(ctx, id, "whoami", []byte("x"))
		self := a.View().Self()
		if want := fmt.Sprintf("%s %s %s x", self.ID, self.Name, self.Addr); err != nil || string(got) != want {
			t.Errorf("whoami: %q, %v, want %q", got, err, want)
		}
		for _, size := range []int{0, 1, 100, 70000, 4 << 20} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			got, err := a.Call(ctx, id, "echo", body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("echo of %d bytes: %d bytes, %v", size, len(got), err)
			}
			if size <= mesh.MaxUrgent {
				got, err = a.CallUrgent(ctx, id, "echo", body)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("urgent echo of %d bytes: %d bytes, %v", size, len(got), err)
				}
			}
		}
		if _, err := a.Call(ctx, id, "echo", make([]byte, 4<<20+1)); !errors.Is(err, mesh.ErrTooLarge) {
			t.Errorf("too large a request: %v", err)
		}
		if _, err := a.Call(ctx, id, "large", nil); !errors.Is(err, mesh.ErrTooLarge) {
			t.Errorf("too large an answer: %v", err)
		}
		_, err = a.Call(ctx, id, "missing", nil)
		var remote *mesh.RemoteError
		if !errors.Is(err, mesh.ErrNoHandler) || !errors.As(err, &remote) || remote.Node != id {
			t.Errorf("unknown name: %v", err)
		}
		_, err = a.Call(ctx, id, "fail", []byte("the reason"))
		if !errors.As(err, &remote) || remote.Text != "the reason" || remote.Code != "error" || remote.Name != "fail" {
			t.Errorf("handler's error: %v", err)
		}
		_, err = a.Call(ctx, id, "coded", nil)
		if !errors.As(err, &remote) || remote.Code != "not_leader" {
			t.Errorf("coded error: %v", err)
		}
		_, err = a.Call(ctx, id, "panic", nil)
		if !errors.As(err, &remote) || remote.Code != "panic" || !strings.Contains(remote.Text, "oops") {
			t.Errorf("panicking handler: %v", err)
		}
		// Deadlines cross, and a caller that goes does not wait for the handler.
		short, done := context.WithTimeout(ctx, 100*time.Millisecond)
		if _, err = a.Call(short, id, "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		done()
		gone, done := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, done)
		if _, err = a.Call(gone, id, "wait", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancel: %v", err)
		}
		meshtest.Eventually(t, "the handlers were told", func() bool {
			n, err := a.Call(ctx, id, "waiting", nil)
			return err == nil && string(n) == "0"
		})
	}
	if _, err := a.Call(ctx, meshtest.ID(77), "echo", nil); !errors.Is(err, mesh.ErrNotMember) {
		t.Errorf("nobody: %v", err)
	}

	// Many at once, more than one connection takes.
	var wg sync.WaitGroup
	var bad atomic.Int32
	for i := range 300 {
		wg.Go(func() {
			body := []byte(fmt.Sprint(i))
			if got, err := a.Call(ctx, idB, "echo", body); err != nil || !bytes.Equal(got, body) {
				bad.Add(1)
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d of 300 calls at once failed", bad.Load())
	}
	if st := a.Stats(); st.CallsOut < 300 || st.ErrorsOut == 0 || st.BytesIn == 0 || st.BytesOut == 0 || st.ConnsOut < 1 {
		t.Errorf("stats: %+v", st)
	}

	// One that goes without a word is seen, and calls to it end.
	waiting := make(chan error, 1)
	go func() {
		_, err := a.Call(ctx, idB, "wait", nil)
		waiting <- err
	}()
	time.Sleep(200 * time.Millisecond)
	start := time.Now()
	b.Close()
	if err := <-waiting; !errors.Is(err, mesh.ErrUnreachable) && !errors.Is(err, context.Canceled) {
		t.Errorf("call to a member that closes: %v", err)
	}
	meshtest.WaitState(t, a, idB, mesh.StateFailed)
	meshtest.WaitState(t, nodes[2], idB, mesh.StateFailed)
	t.Logf("seen failed after %v", time.Since(start))
	if _, err := a.Call(ctx, idB, "echo", nil); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("call to a member that failed: %v", err)
	}
	if _, err := b.Call(ctx, idB, "echo", nil); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("call on a closed mesh: %v", err)
	}
	// It comes back, and is called again.
	back := meshtest.Run(t, func() mesh.Config { c := config(1); c.MaxFrame = 4 << 20; return c }())
	handlers(back)
	meshtest.WaitState(t, a, idB, mesh.StateAlive)
	meshtest.Eventually(t, "calls work again", func() bool {
		_, err := a.Call(ctx, idB, "echo", nil)
		return err == nil
	})
}

type notLeader struct{}

func (notLeader) Error() string     { return "not the leader" }
func (notLeader) ErrorCode() string { return "not_leader" }

func handlers(m *mesh.Mesh) {
	m.Handle("echo", func(_ context.Context, _ mesh.Caller, req []byte) ([]byte, error) { return req, nil })
	m.Handle("whoami", func(_ context.Context, from mesh.Caller, req []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%s %s %s %s", from.ID, from.Name, from.Addr.Addr(), req), nil
	})
	m.Handle("large", func(context.Context, mesh.Caller, []byte) ([]byte, error) { return make([]byte, 4<<20+1), nil })
	m.Handle("fail", func(_ context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
		return nil, errors.New(string(req))
	})
	m.Handle("coded", func(context.Context, mesh.Caller, []byte) ([]byte, error) {
		return nil, fmt.Errorf("x: %w", notLeader{})
	})
	m.Handle("panic", func(context.Context, mesh.Caller, []byte) ([]byte, error) { panic("oops") })
	var waiting atomic.Int32
	m.Handle("wait", func(ctx context.Context, _ mesh.Caller, _ []byte) ([]byte, error) {
		waiting.Add(1)
		defer waiting.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	m.Handle("waiting", func(context.Context, mesh.Caller, []byte) ([]byte, error) {
		return fmt.Append(nil, waiting.Load()), nil
	})
}

// Garbage and silence on the stream port cost nothing but a counter.
func TestGarbage(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		var log logBuffer
		nodes := meshtest.StartOn(t, n, 2, func(i int, cfg *mesh.Config) { cfg.Logger = log.logger() })
		handlers(nodes[0])
		stranger := n.Node(meshtest.Addr(9))
		at := netip.AddrPortFrom(meshtest.Addr(0), 7947)
		garbage := []string{"GET / HTTP/1.1\r\n\r\n", "\x00", strings.Repeat("\xff", 1<<16), "\x16\x03\x01\xff\xff" + strings.Repeat("x", 100), ""}
		for _, g := range garbage {
			c, err := stranger.Dial(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(time.Minute))
			c.Write([]byte(g))
			start := time.Now()
			io.Copy(io.Discard, c) // until it is closed; the silent one by the handshake's deadline
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("%.10q: closed after %v", g, d)
			}
			c.Close()
		}
		if g := nodes[0].Stats().Garbage; g != uint64(len(garbage)) {
			t.Errorf("counted %d", g)
		}
		if c := log.count("did not speak the protocol"); c != 1 {
			t.Errorf("logged %d times:\n%s", c, log.String())
		}
		// Silent ones by the hundred do not keep members out for longer than the handshake's deadline.
		var held []net.Conn
		for range 200 {
			if c, err := stranger.Dial(t.Context(), at); err == nil {
				held = append(held, c)
			}
			time.Sleep(time.Millisecond)
		}
		if nodes[0].Stats().Overload == 0 {
			t.Error("handshakes are not bounded")
		}
		time.Sleep(6 * time.Second)
		if _, err := nodes[1].Call(t.Context(), meshtest.ID(0), "echo", nil); err != nil {
			t.Error(err)
		}
		for _, c := range held {
			c.Close()
		}
	})
}

// A partition in mid-call: the caller is told when the member is seen failed, long before TCP would.
func TestCallInPartition(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3)
		handlers(nodes[1])
		if _, err := nodes[0].Call(t.Context(), meshtest.ID(1), "echo", nil); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { n.Isolate(meshtest.Addr(1)) })
		start := time.Now()
		_, err := nodes[0].Call(t.Context(), meshtest.ID(1), "wait", nil)
		if d := time.Since(start); !errors.Is(err, mesh.ErrUnreachable) || d > 6*time.Second {
			t.Errorf("%v after %v", err, d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := nodes[0].Call(ctx, meshtest.ID(1), "echo", nil); !errors.Is(err, mesh.ErrUnreachable) {
			t.Error(err)
		}
		// While it is backed off a call fails at once.
		start = time.Now()
		if _, err := nodes[0].Call(ctx, meshtest.ID(1), "echo", nil); !errors.Is(err, mesh.ErrUnreachable) || time.Since(start) > 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		n.Heal()
		meshtest.WaitAlive(t, nodes...)
		if _, err := nodes[0].Call(ctx, meshtest.ID(1), "echo", nil); err != nil {
			t.Errorf("after healing: %v", err)
		}
	})
}

// A stream that only looks open is noticed without gossip's help, and an idle one is closed.
func TestHalfOpenAndIdle(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2)
		handlers(nodes[1])
		call := func() error {
			_, err := nodes[0].Call(t.Context(), meshtest.ID(1), "echo", nil)
			return err
		}
		// The ordinary lane is never idle between two nodes: they compare reports. The urgent one is theirs who call.
		if _, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(1), "echo", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if c := nodes[0].Stats().Urgent.ConnsOut; c != 1 {
			t.Errorf("%d connections after a quiet minute", c)
		}
		time.Sleep(6 * time.Minute)
		if a, b := nodes[0].Stats().Urgent.ConnsOut, nodes[1].Stats().Urgent.ConnsIn; a != 0 || b != 0 {
			t.Errorf("idle connections are not closed: %d, %d", a, b)
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
	})
}

// No more than the bound are served at a time; the rest is told so at once.
func TestBusy(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 2, func(i int, cfg *mesh.Config) { cfg.MaxRequests = 5 })
		handlers(nodes[1])
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var busy, timeout atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := nodes[0].Call(ctx, meshtest.ID(1), "wait", nil)
				switch {
				case errors.Is(err, mesh.ErrBusy):
					busy.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					timeout.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if busy.Load() != 3 || timeout.Load() != 5 {
			t.Errorf("%d busy, %d served", busy.Load(), timeout.Load())
		}
		time.Sleep(time.Second)
		if _, err := nodes[0].Call(t.Context(), meshtest.ID(1), "echo", nil); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// Another member at the address is not taken for the one that was called.
func TestWrongNode(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 3)
		nodes[2].Close()
		meshtest.WaitState(t, nodes[0], meshtest.ID(2), mesh.StateFailed)
		cfg := n.Config(2)
		cfg.NodeID = meshtest.ID(40)
		meshtest.Run(t, cfg)
		time.Sleep(time.Second)
		if _, err := nodes[0].Call(t.Context(), meshtest.ID(2), "echo", nil); !errors.Is(err, mesh.ErrWrongNode) {
			t.Errorf("call: %v", err)
		}
	})
}

// Close is idempotent, also before Run, and frees the ports.
func TestCloseWithoutRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	config := loopback(t)
	for range 3 {
		m, err := mesh.Open(config(0))
		if err != nil {
			t.Fatal(err)
		}
		// What arrives meanwhile must not hold up the end.
		c, err := net.Dial("udp", m.View().Self().Gossip().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x"))
		c.Write([]byte("y"))
		c.Close()
		time.Sleep(10 * time.Millisecond)
		m.Close()
		m.Close()
	}
	goleak.VerifyNone(t, before)
}

// A member that opens stream after stream loses its oldest ones, and takes no place of others.
func TestManyStreamsOfOneMember(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 3)
		handlers(nodes[0])
		to, _ := nodes[1].View().Get(meshtest.ID(0))
		if err := mesh.OpenStreams(t.Context(), nodes[1], to, 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if st := nodes[0].Stats(); st.ConnsIn > 20 || st.Overload < 80 {
			t.Errorf("%d streams are open, %d were turned away", st.ConnsIn, st.Overload)
		}
		for _, n := range nodes[1:] {
			if _, err := n.Call(t.Context(), meshtest.ID(0), "echo", nil); err != nil {
				t.Error(err)
			}
		}
	})
}
