package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

const testGroup = "00112233445566778899aabbccddeeff"

// serverOf is the i-th test server, the n-th of its node.
func serverOf(i, n int) raft.ServerID {
	return raft.ServerID(fmt.Sprintf("%s.%016x", meshtest.ID(i), n))
}

func addrOf(i int) raft.ServerAddress { return raft.ServerAddress(meshtest.ID(i)) }

func headerOf(i int) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(serverOf(i, 1)), Addr: []byte(addrOf(i))}
}

// openTransport opens the transport of the i-th node.
func openTransport(t testing.TB, m Caller, i int, edit ...func(*TransportConfig)) *Transport {
	t.Helper()
	cfg := TransportConfig{Mesh: m, NodeID: meshtest.ID(i), ServerID: serverOf(i, 1), Group: testGroup, Generation: 3, Logger: slog.New(slog.DiscardHandler)}
	for _, e := range edit {
		e(&cfg)
	}
	x, err := OpenTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

type fullTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// The contract of raft's transports, on the one that comes with raft and on ours.
func TestTransportConformance(t *testing.T) {
	t.Run("raft's own", func(t *testing.T) {
		_, a := raft.NewInmemTransport(addrOf(0))
		_, b := raft.NewInmemTransport(addrOf(1))
		a.Connect(b.LocalAddr(), b)
		b.Connect(a.LocalAddr(), a)
		transportConformance(t, a, b)
	})
	t.Run("mesh", func(t *testing.T) {
		meshtest.Bubble(t, func(t *testing.T) {
			nodes := meshtest.Start(t, 2)
			transportConformance(t, openTransport(t, nodes[0], 0), openTransport(t, nodes[1], 1))
		})
	})
}

func transportConformance(t *testing.T, a, b fullTransport) {
	if a.LocalAddr() != addrOf(0) || b.LocalAddr() != addrOf(1) {
		t.Errorf("addresses: %q, %q", a.LocalAddr(), b.LocalAddr())
	}
	if got := b.DecodePeer(a.EncodePeer(serverOf(1, 1), addrOf(1))); got != addrOf(1) {
		t.Errorf("peer became %q", got)
	}
	from, back := headerOf(0), headerOf(1)
	peers := raft.Configuration{Servers: []raft.Server{{ID: serverOf(0, 1), Address: addrOf(0)}, {ID: serverOf(1, 1), Address: addrOf(1)}}}
	snapshot := bytes.Repeat([]byte("0123456789"), 300_000)
	entries := []*raft.Log{
		{Index: 101, Term: 4, Type: raft.LogNoop, AppendedAt: time.Unix(1_700_000_000, 5)},
		{Index: 102, Term: 4, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("more")},
		{Index: 103, Term: 4, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(peers)},
	}
	large := []*raft.Log{{Index: 104, Term: 4, Type: raft.LogCommand, Data: bytes.Repeat([]byte("x"), 3<<20)}}
	install := &raft.InstallSnapshotRequest{
		RPCHeader: from, SnapshotVersion: 1, Term: 9, Leader: from.Addr, LastLogIndex: 100, LastLogTerm: 8,
		Configuration: raft.EncodeConfiguration(peers), ConfigurationIndex: 7, Size: int64(len(snapshot)),
	}
	appendCall := func(q *raft.AppendEntriesRequest) func() (any, error) {
		return func() (any, error) {
			resp := new(raft.AppendEntriesResponse)
			return resp, a.AppendEntries(serverOf(1, 1), addrOf(1), q, resp)
		}
	}
	for _, c := range []struct {
		what    string
		request any
		answer  any
		call    func() (any, error)
	}{
		{what: "heartbeat", request: &raft.AppendEntriesRequest{RPCHeader: from, Term: 9, Leader: from.Addr}, answer: &raft.AppendEntriesResponse{RPCHeader: back, Term: 9, LastLog: 100, Success: true}},
		{what: "append", request: &raft.AppendEntriesRequest{RPCHeader: from, Term: 9, Leader: from.Addr, PrevLogEntry: 100, PrevLogTerm: 3, LeaderCommitIndex: 99, Entries: entries}, answer: &raft.AppendEntriesResponse{RPCHeader: back, Term: 10, LastLog: 1 << 60, NoRetryBackoff: true}},
		{what: "large append", request: &raft.AppendEntriesRequest{RPCHeader: from, Term: 9, Leader: from.Addr, PrevLogEntry: 103, PrevLogTerm: 4, Entries: large}, answer: &raft.AppendEntriesResponse{RPCHeader: back, Term: 9, Success: true}},
		{what: "vote", request: &raft.RequestVoteRequest{RPCHeader: from, Term: 10, Candidate: from.Addr, LastLogIndex: 1, LastLogTerm: 2, LeadershipTransfer: true}, answer: &raft.RequestVoteResponse{RPCHeader: back, Term: 10, Granted: true},
			call: func() (any, error) {
				resp := new(raft.RequestVoteResponse)
				return resp, a.RequestVote(serverOf(1, 1), addrOf(1), &raft.RequestVoteRequest{RPCHeader: from, Term: 10, Candidate: from.Addr, LastLogIndex: 1, LastLogTerm: 2, LeadershipTransfer: true}, resp)
			}},
		{what: "pre-vote", request: &raft.RequestPreVoteRequest{RPCHeader: from, Term: 10, LastLogIndex: 1, LastLogTerm: 2}, answer: &raft.RequestPreVoteResponse{RPCHeader: back, Term: 9},
			call: func() (any, error) {
				resp := new(raft.RequestPreVoteResponse)
				return resp, a.RequestPreVote(serverOf(1, 1), addrOf(1), &raft.RequestPreVoteRequest{RPCHeader: from, Term: 10, LastLogIndex: 1, LastLogTerm: 2}, resp)
			}},
		{what: "timeout-now", request: &raft.TimeoutNowRequest{RPCHeader: from}, answer: &raft.TimeoutNowResponse{RPCHeader: back},
			call: func() (any, error) {
				resp := new(raft.TimeoutNowResponse)
				return resp, a.TimeoutNow(serverOf(1, 1), addrOf(1), &raft.TimeoutNowRequest{RPCHeader: from}, resp)
			}},
		{what: "snapshot", request: install, answer: &raft.InstallSnapshotResponse{RPCHeader: back, Term: 9, Success: true},
			call: func() (any, error) {
				resp := new(raft.InstallSnapshotResponse)
				return resp, a.InstallSnapshot(serverOf(1, 1), addrOf(1), install, resp, bytes.NewReader(snapshot))
			}},
	} {
		if q, ok := c.request.(*raft.AppendEntriesRequest); ok {
			c.call = appendCall(q)
		}
		for _, fail := range []error{nil, errors.New("the reason")} {
			time.Sleep(beatEvery) // a heartbeat right behind another does not leave
			done := make(chan error, 1)
			go func() {
				select {
				case rpc := <-b.Consumer():
					var err error
					if !reflect.DeepEqual(rpc.Command, c.request) {
						err = fmt.Errorf("got %+v, want %+v", rpc.Command, c.request)
					}
					if _, is := c.request.(*raft.InstallSnapshotRequest); is {
						if got, rerr := io.ReadAll(rpc.Reader); rerr != nil || !bytes.Equal(got, snapshot) {
							err = fmt.Errorf("snapshot of %d bytes, %v", len(got), rerr)
						}
					}
					if fail == nil {
						rpc.Respond(c.answer, nil)
					} else {
						rpc.Respond(nil, fail)
					}
					done <- err
				case <-time.After(10 * time.Second):
					done <- errors.New("nothing came")
				}
			}()
			got, err := c.call()
			if derr := <-done; derr != nil {
				t.Errorf("%s: %v", c.what, derr)
			}
			if fail == nil && (err != nil || !reflect.DeepEqual(got, c.answer)) {
				t.Errorf("%s: %+v, %v, want %+v", c.what, got, err, c.answer)
			}
			if fail != nil && (err == nil || !strings.Contains(err.Error(), "the reason")) {
				t.Errorf("%s: %v, want %v", c.what, err, fail)
			}
		}
	}
	// Nobody answers, and then nobody is there.
	start := time.Now()
	if err := a.RequestVote(serverOf(1, 1), addrOf(1), &raft.RequestVoteRequest{RPCHeader: from}, new(raft.RequestVoteResponse)); err == nil || time.Since(start) < 400*time.Millisecond {
		t.Errorf("nobody answered: %v after %v", err, time.Since(start))
	}
	if err := a.RequestVote(serverOf(7, 1), addrOf(7), &raft.RequestVoteRequest{RPCHeader: from}, new(raft.RequestVoteResponse)); err == nil {
		t.Error("nobody there: no error")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := a.RequestVote(serverOf(1, 1), addrOf(1), &raft.RequestVoteRequest{RPCHeader: from}, new(raft.RequestVoteResponse)); err == nil {
		t.Error("call on a closed transport")
	}
}

// Who is not meant is told so, and nothing of it reaches raft.
func TestTransportRefuses(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 2)
		type news struct {
			node       string
			generation uint64
		}
		heard := make(chan news, 10)
		hear := func(cfg *TransportConfig) {
			cfg.OnGeneration = func(node string, generation uint64) { heard <- news{node, generation} }
		}
		b := openTransport(t, nodes[1], 1, hear)
		var sick atomic.Bool
		b.cfg.Silent = func() error {
			if sick.Load() {
				return errors.New("the disk is sick")
			}
			return nil
		}
		go func() {
			for {
				select {
				case rpc := <-b.Consumer():
					t.Errorf("raft got %+v", rpc.Command)
				case <-b.ctx.Done():
					return
				}
			}
		}()
		vote := func(a *Transport, id raft.ServerID) error {
			return a.RequestVote(id, addrOf(1), &raft.RequestVoteRequest{RPCHeader: headerOf(0), Term: 1}, new(raft.RequestVoteResponse))
		}

		a := openTransport(t, nodes[0], 0, hear, func(c *TransportConfig) { c.Group = strings.Repeat("0", 32) })
		if err := vote(a, serverOf(1, 1)); !errors.Is(err, ErrOtherGroup) {
			t.Errorf("other group: %v", err)
		}
		a.Close()
		a = openTransport(t, nodes[0], 0, hear, func(c *TransportConfig) { c.Generation = 2 })
		if err := vote(a, serverOf(1, 1)); !errors.Is(err, ErrOtherGeneration) {
			t.Errorf("earlier generation: %v", err)
		}
		if got := <-heard; got != (news{meshtest.ID(1), 3}) {
			t.Errorf("the one behind heard %+v", got)
		}
		a.Close()
		a = openTransport(t, nodes[0], 0, hear, func(c *TransportConfig) { c.Generation = 4 })
		if err := vote(a, serverOf(1, 1)); !errors.Is(err, ErrOtherGeneration) {
			t.Errorf("later generation: %v", err)
		}
		if got := <-heard; got != (news{meshtest.ID(0), 4}) {
			t.Errorf("the one behind heard %+v", got)
		}
		a.Close()
		a = openTransport(t, nodes[0], 0)
		// The peer had another raft id before: what it promised then is not known to it.
		if err := vote(a, serverOf(1, 9)); !errors.Is(err, ErrOtherServer) {
			t.Errorf("other raft id: %v", err)
		}
		// One that is silent takes nothing over, and asks for no votes.
		sick.Store(true)
		if err := a.TimeoutNow(serverOf(1, 1), addrOf(1), &raft.TimeoutNowRequest{RPCHeader: headerOf(0)}, new(raft.TimeoutNowResponse)); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), "the disk is sick") {
			t.Errorf("taking over: %v", err)
		}
		if err := b.RequestVote(serverOf(0, 1), addrOf(0), &raft.RequestVoteRequest{RPCHeader: headerOf(1)}, new(raft.RequestVoteResponse)); !errors.Is(err, ErrSilent) {
			t.Errorf("vote of a silent one: %v", err)
		}
		if err := b.RequestPreVote(serverOf(0, 1), addrOf(0), &raft.RequestPreVoteRequest{RPCHeader: headerOf(1)}, new(raft.RequestPreVoteResponse)); !errors.Is(err, ErrSilent) {
			t.Errorf("pre-vote of a silent one: %v", err)
		}
		// What is not understood.
		for _, req := range []string{"", "x", strings.Repeat("\xff", 2000)} {
			var remote *mesh.RemoteError
			if _, err := nodes[0].CallUrgent(t.Context(), meshtest.ID(1), callName, []byte(req)); !errors.As(err, &remote) || remote.Code != codeMalformed && remote.Code != codeGroup {
				t.Errorf("%.10q: %v", req, err)
			}
		}
		if st := b.Stats(); st != (TransportStats{OtherGroup: 2, OtherGeneration: 2, OtherServer: 1, Malformed: 2, Silenced: 3}) {
			t.Errorf("%+v", st)
		}
		// Too large a snapshot is told before anything of it is read.
		err := a.InstallSnapshot(serverOf(1, 1), addrOf(1), &raft.InstallSnapshotRequest{RPCHeader: headerOf(0), Size: MaxSnapshot + 1}, nil, nil)
		if !errors.Is(err, ErrSnapshotTooLarge) || !strings.Contains(err.Error(), "12582913 bytes") {
			t.Errorf("large snapshot: %v", err)
		}
		err = a.InstallSnapshot(serverOf(1, 1), addrOf(1), &raft.InstallSnapshotRequest{RPCHeader: headerOf(0), Size: 10}, nil, strings.NewReader("short"))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("short snapshot: %v", err)
		}
		if _, err := a.AppendEntriesPipeline(serverOf(1, 1), addrOf(1)); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
			t.Errorf("pipeline: %v", err)
		}
	})
}

// A member cannot speak for another: neither through its own transport nor with bytes of its own.
func TestTransportImpostor(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 3)
		a, b := openTransport(t, nodes[0], 0), openTransport(t, nodes[1], 1)
		for _, h := range []raft.RPCHeader{headerOf(2), {ID: headerOf(2).ID, Addr: headerOf(0).Addr}, {ID: headerOf(0).ID, Addr: headerOf(2).Addr}, {}} {
			err := a.RequestVote(serverOf(1, 1), addrOf(1), &raft.RequestVoteRequest{RPCHeader: h}, new(raft.RequestVoteResponse))
			if err == nil || !strings.Contains(err.Error(), "it is of server") {
				t.Errorf("%s: %v", h.ID, err)
			}
		}
		// The bytes that node 3 would send, sent by node 1: they are taken for node 1's.
		h := head{kind: voteKind, group: b.head.group, generation: 3, from: 1, to: 1, protocol: 3}
		req := appendVoteRequest(h.append(nil), &raft.RequestVoteRequest{RPCHeader: headerOf(2), Term: 5, Candidate: headerOf(2).Addr})
		go nodes[0].CallUrgent(t.Context(), meshtest.ID(1), callName, req)
		rpc := <-b.Consumer()
		if q := rpc.Command.(*raft.RequestVoteRequest); !reflect.DeepEqual(q.RPCHeader, headerOf(0)) {
			t.Errorf("it is taken for %s at %s", q.ID, q.Addr)
		}
		rpc.Respond(&raft.RequestVoteResponse{}, nil)
	})
}

// A peer's error never counts as a yes to a pre-vote, whatever its words: raft reads some for one.
func TestTransportPreVoteWords(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 2)
		a, b := openTransport(t, nodes[0], 0), openTransport(t, nodes[1], 1)
		go func() {
			rpc := <-b.Consumer()
			rpc.Respond(nil, errors.New("unexpected command"))
		}()
		err := a.RequestPreVote(serverOf(1, 1), addrOf(1), &raft.RequestPreVoteRequest{RPCHeader: headerOf(0)}, new(raft.RequestPreVoteResponse))
		if err == nil || strings.Contains(err.Error(), "unexpected command") {
			t.Error(err)
		}
	})
}

// Heartbeats do not wait behind what raft's main loop does; Close ends what waits, on both sides.
func TestTransportHeartbeatAndClose(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		nodes := meshtest.Start(t, 2)
		a, b := openTransport(t, nodes[0], 0), openTransport(t, nodes[1], 1)
		shut := false
		b.SetHeartbeatHandler(func(rpc raft.RPC) {
			if !shut {
				rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: headerOf(1), Term: 7}, nil)
			}
		})
		q := &raft.AppendEntriesRequest{RPCHeader: headerOf(0), Term: 7}
		var resp raft.AppendEntriesResponse
		if err := a.AppendEntries(serverOf(1, 1), addrOf(1), q, &resp); err != nil || resp.Term != 7 {
			t.Errorf("%+v, %v", resp, err)
		}
		shut = true
		if err := a.AppendEntries(serverOf(1, 1), addrOf(1), q, &resp); err == nil {
			t.Error("a raft that is shut down answered")
		}
		for _, end := range []*Transport{b, a} {
			c := make(chan error, 1)
			q := &raft.AppendEntriesRequest{RPCHeader: headerOf(0), Term: 7, PrevLogEntry: 1}
			go func() { c <- a.AppendEntries(serverOf(1, 1), addrOf(1), q, new(raft.AppendEntriesResponse)) }()
			time.Sleep(100 * time.Millisecond)
			start := time.Now()
			end.Close()
			if err := <-c; err == nil || time.Since(start) > 100*time.Millisecond {
				t.Errorf("closed: %v after %v", err, time.Since(start))
			}
			if end == b {
				b = openTransport(t, nodes[1], 1) // the next takes over
			}
		}
	})
}

func TestTransportConfig(t *testing.T) {
	good := TransportConfig{Mesh: nobody{}, NodeID: meshtest.ID(0), ServerID: serverOf(0, 1), Group: testGroup}
	if x, err := OpenTransport(good); err != nil {
		t.Error(err)
	} else {
		x.Close()
	}
	for what, edit := range map[string]func(*TransportConfig){
		"no raft id":        func(c *TransportConfig) { c.ServerID = "" },
		"another's raft id": func(c *TransportConfig) { c.ServerID = serverOf(1, 1) },
		"upper case":        func(c *TransportConfig) { c.ServerID = raft.ServerID(meshtest.ID(0) + ".00000000000000AA") },
		"no group":          func(c *TransportConfig) { c.Group = "" },
		"long group":        func(c *TransportConfig) { c.Group += "00" },
		"upper-case group":  func(c *TransportConfig) { c.Group = strings.ToUpper(c.Group) },
	} {
		c := good
		edit(&c)
		if _, err := OpenTransport(c); err == nil || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// nobody is a mesh in which nobody answers.
type nobody struct{}

func (nobody) Call(context.Context, string, string, []byte) ([]byte, error) {
	return nil, mesh.ErrNotMember
}
func (nobody) CallUrgent(context.Context, string, string, []byte) ([]byte, error) {
	return nil, mesh.ErrNotMember
}
func (nobody) Handle(string, mesh.Handler) {}

// TestHeartbeatsRightBehindEachOther: raft sends ten within its timeout. Those that tell nothing new do not leave; those of another term, and
// those behind one that failed, do.
func TestHeartbeatsRightBehindEachOther(t *testing.T) {
	var b beats
	now := time.Now()
	b.note("x", 7, now, true)
	for _, c := range []struct {
		id    raft.ServerID
		term  uint64
		after time.Duration
		fresh bool
	}{{"x", 7, beatEvery - 1, true}, {"x", 7, beatEvery, false}, {"x", 8, 0, false}, {"y", 7, 0, false}} {
		if got := b.fresh(c.id, c.term, now.Add(c.after)); got != c.fresh {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if b.note("x", 7, now, false); b.fresh("x", 7, now) {
		t.Error("one that failed counts as answered")
	}
}
