package lease

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

// lines is a state machine that keeps what was applied.
type lines struct {
	mu   sync.Mutex
	kept []byte
}

func (l *lines) Apply(e *raft.Log) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, e.Data...)
	return nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}

func (l *lines) Snapshot() (raft.FSMSnapshot, error) { return kept(l.text()), nil }

func (l *lines) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = b
	return err
}

type kept string

func (k kept) Persist(s raft.SnapshotSink) error {
	if _, err := io.WriteString(s, string(k)); err != nil {
		return err
	}
	return s.Close()
}
func (kept) Release() {}

// testServer is a raft on a node.
type testServer struct {
	*raft.Raft
	fsm   *lines
	trans *Transport
	snaps *raft.InmemSnapshotStore
	sick  atomic.Bool // whether its disk is
}

func startServer(t *testing.T, m *mesh.Mesh, i int) *testServer {
	t.Helper()
	s := &testServer{fsm: new(lines), snaps: raft.NewInmemSnapshotStore()}
	log := slog.New(slog.DiscardHandler)
	s.trans = openTransport(t, m, i, func(c *TransportConfig) {
		c.Silent = func() error {
			if s.sick.Load() {
				return errors.New("the disk is sick")
			}
			return nil
		}
	})
	cfg := raft.DefaultConfig()
	cfg.LocalID = serverOf(i, 1)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	cfg.TrailingLogs = 1
	cfg.Logger = newRaftLog(log, nil)
	store := raft.NewInmemStore()
	r, err := raft.NewRaft(cfg, s.fsm, store, store, s.snaps, s.trans)
	if err != nil {
		t.Fatal(err)
	}
	s.Raft = r
	t.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func servers(n int) raft.Configuration {
	var c raft.Configuration
	for i := range n {
		c.Servers = append(c.Servers, raft.Server{ID: serverOf(i, 1), Address: addrOf(i)})
	}
	return c
}

// leaderOf waits for a leader among servers.
func leaderOf(t *testing.T, among ...*testServer) (leader *testServer) {
	t.Helper()
	meshtest.Eventually(t, "there is a leader", func() bool {
		for _, s := range among {
			if s.State() == raft.Leader && s.VerifyLeader().Error() == nil {
				leader = s
				return true
			}
		}
		return false
	})
	return leader
}

// Three rafts over a mesh: they elect, replicate, hand over, send a snapshot, and live through cuts.
func TestRaftOverMesh(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		n := meshtest.New(1)
		nodes := meshtest.StartOn(t, n, 4)
		var all []*testServer
		for i := range 3 {
			all = append(all, startServer(t, nodes[i], i))
		}
		if err := all[0].BootstrapCluster(servers(3)).Error(); err != nil {
			t.Fatal(err)
		}
		leader := leaderOf(t, all...)
		want := ""
		put := func(s *testServer, text string) {
			t.Helper()
			if err := s.Apply([]byte(text), 5*time.Second).Error(); err != nil {
				t.Fatal(err)
			}
			want += text
		}
		agree := func(among ...*testServer) {
			t.Helper()
			meshtest.Eventually(t, "all have the same", func() bool {
				for _, s := range among {
					if s.fsm.text() != want {
						return false
					}
				}
				return true
			})
		}
		for i := range 100 {
			put(leader, fmt.Sprintf("%d ", i))
		}
		agree(all...)

		// Handed over, to one that is named. One whose disk is sick refuses, and the leader stays.
		var others []*testServer
		for _, s := range all {
			if s != leader {
				others = append(others, s)
			}
		}
		others[0].sick.Store(true)
		if err := leader.LeadershipTransferToServer(others[0].trans.cfg.ServerID, others[0].trans.LocalAddr()).Error(); err == nil {
			t.Error("a server whose disk is sick took over")
		}
		others[0].sick.Store(false)
		leader = leaderOf(t, all...)
		for _, s := range all {
			if s != leader {
				others[0] = s
			}
		}
		start := time.Now()
		if err := leader.LeadershipTransferToServer(others[0].trans.cfg.ServerID, others[0].trans.LocalAddr()).Error(); err != nil {
			t.Fatal(err)
		}
		if leader = leaderOf(t, all...); leader != others[0] {
			t.Error("another took over")
		}
		t.Logf("handed over in %v", time.Since(start))
		put(leader, "after ")

		// A learner gets a snapshot: the log no longer begins at the beginning.
		for _, s := range all {
			if err := s.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		put(leader, "later ")
		learner := startServer(t, nodes[3], 3)
		if err := leader.AddNonvoter(serverOf(3, 1), addrOf(3), 0, 10*time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		agree(append(all, learner)...)
		if list, err := learner.snaps.List(); err != nil || len(list) != 1 {
			t.Errorf("the learner has %d snapshots, %v", len(list), err)
		}

		// The leader is cut off: the others elect, and it comes back as one of them without a higher term (pre-vote).
		for _, cut := range []time.Duration{3 * time.Second, time.Minute} {
			old := leader
			at := 0
			others = others[:0]
			for i, s := range all {
				if s == old {
					at = i
				} else {
					others = append(others, s)
				}
			}
			n.Isolate(meshtest.Addr(at))
			start = time.Now()
			leader = leaderOf(t, others...)
			t.Logf("%v after the cut there is a new leader", time.Since(start))
			put(leader, "cut ")
			time.Sleep(cut)
			if old.State() == raft.Leader {
				t.Error("the one cut off still leads")
			}
			term := leader.CurrentTerm()
			n.Heal()
			start = time.Now()
			agree(append(all, learner)...)
			t.Logf("%v after it healed all have the same", time.Since(start))
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("all have the same only %v after the cut healed", d)
			}
			time.Sleep(5 * time.Second)
			if got := leaderOf(t, all...); got != leader || got.CurrentTerm() != term {
				t.Errorf("the one that came back upset the leader: term %d became %d", term, got.CurrentTerm())
			}
		}

		// A server whose disk is sick wins no election, also when it alone has seen nobody for long.
		for i, s := range all {
			if s != leader {
				s.sick.Store(true)
				n.Isolate(meshtest.Addr(i))
				time.Sleep(10 * time.Second)
				n.Heal()
				time.Sleep(5 * time.Second)
				if leaderOf(t, all...) != leader {
					t.Error("the leader changed")
				}
				if s.trans.Stats().Silenced == 0 {
					t.Error("it asked for no vote at all")
				}
				break
			}
		}
	})
}
