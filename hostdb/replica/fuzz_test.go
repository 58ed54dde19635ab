package replica

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// Each target decodes one message as it comes from a neighbour and does with it what the replica does. By hand:
// go test ./hostdb/replica -fuzz 'FuzzDecodePullAnswer$' -fuzztime 2m

// fuzzReplica is a replica with a few operations that no peer answers.
func fuzzReplica(f *testing.F) *Replica {
	f.Helper()
	store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }, NodeID: "n"})
	if err != nil {
		f.Fatal(err)
	}
	r, err := Open(Config{Store: store, NodeID: "n", Peers: port{newFabric(), "n"}, BytesPerSecond: 1 << 40})
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		_, err := store.Update(context.Background(), hostdb.Request{User: "u", Log: "l"}, func(tx *hostdb.Tx) error {
			return tx.Put(hostdb.Hosts, key, hostdb.NewDocument(hostdb.Leaf{Path: hostdb.PathOf("x"), Value: hostdb.Text("1")}))
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	return r
}

func seed(f *testing.F, messages ...any) {
	f.Helper()
	for _, m := range messages {
		b, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

func FuzzDecodePushRequest(f *testing.F) {
	r := fuzzReplica(f)
	ops, err := r.cfg.Store.Operations(r.cfg.Store.Origin(), 0, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	seed(f, pushRequest{Ops: ops}, pushRequest{})
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = r.servePush(t.Context(), "x", b) })
}

func FuzzDecodePullRequest(f *testing.F) {
	r := fuzzReplica(f)
	pic := r.picture()
	seed(f, pullRequest{Vector: map[uint64]uint64{1: 2}, Bytes: 100},
		pullRequest{Protocol: protocol, Version: "x", Retired: pic.retired, Heads: packHeads(pic.heads), Bytes: 1},
		pullRequest{Protocol: protocol, Version: "x", Retired: pic.retired, Sums: make([]uint64, bucketCount)},
		pullRequest{Protocol: protocol, Want: packPairs([]pair{{r.cfg.Store.Origin(), 1}}), Bytes: 1 << 20})
	f.Fuzz(func(t *testing.T, b []byte) {
		back, err := r.servePull(t.Context(), "x", b)
		if err != nil {
			return
		}
		var answer pullAnswer
		if err := decode(back, &answer); err != nil {
			t.Errorf("what was answered cannot be read: %v", err)
		}
	})
}

func FuzzDecodeStateRequest(f *testing.F) {
	r := fuzzReplica(f)
	seed(f, stateRequest{Bytes: 10}, stateRequest{After: []byte("khosts\x00a"), Bytes: 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		back, err := r.serveState(t.Context(), "x", b)
		var answer stateAnswer
		if err == nil && decode(back, &answer) != nil {
			t.Error("what was answered cannot be read")
		}
	})
}

func FuzzDecodeHistoryRequest(f *testing.F) {
	r := fuzzReplica(f)
	seed(f, historyRequest{Origin: r.cfg.Store.Origin(), Until: 2, Bytes: 10}, historyRequest{Until: ^uint64(0)})
	f.Fuzz(func(t *testing.T, b []byte) {
		back, err := r.serveHistory(t.Context(), "x", b)
		var answer historyAnswer
		if err == nil && decode(back, &answer) != nil {
			t.Error("what was answered cannot be read")
		}
	})
}

func FuzzDecodePullAnswer(f *testing.F) {
	r := fuzzReplica(f)
	pic := r.picture()
	seed(f, pullAnswer{Version: "1", Vector: map[uint64]uint64{7: 9}},
		pullAnswer{Protocol: protocol, Mask: ^uint64(0), Heads: packHeads([]shortHead{{1, ^uint64(0), 3}, {^uint64(0), 1, 1}})},
		pullAnswer{Protocol: protocol, All: true, Heads: packHeads(pic.heads), Wall: -1, Busy: true, RetryMS: -5})
	f.Fuzz(func(t *testing.T, b []byte) {
		var answer pullAnswer
		if decode(b, &answer) != nil {
			return
		}
		d := r.differences(pic, &answer)
		r.mu.Lock()
		p := r.peerLocked("x")
		r.comparedLocked(p, pic, d.theirs)
		r.tallyLocked(p)
		r.mu.Unlock()
		_ = r.solicited("x", answer.Ops, map[uint64]uint64{1: 0})
		if wait := retryAfter(answer.RetryMS); wait <= 0 || wait > maxRetry {
			t.Errorf("%d ms are %s", answer.RetryMS, wait)
		}
		r.heardClock("x", answer.Wall, time.Now(), time.Millisecond)
		r.oldReached(p, &answer, true)
	})
}

// tallyLocked counts what a peer lacks, as Status does.
func (r *Replica) tallyLocked(p *peer) {
	v := r.cfg.Store.View()
	t := tally{v: v, heads: heldBy(v), bases: map[*vector]uint64{}}
	t.of(&p.holding)
}

func FuzzDecodePushAnswer(f *testing.F) {
	r := fuzzReplica(f)
	seed(f, pushAnswer{Have: map[uint64]uint64{1: ^uint64(0)}, Reason: strings.Repeat("x", 5000), Forked: []uint64{1}})
	f.Fuzz(func(t *testing.T, b []byte) {
		var answer pushAnswer
		if decode(b, &answer) != nil {
			return
		}
		if len(answer.Reason) > maxText {
			t.Error("a reason is kept whole")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		p := r.peerLocked("x")
		for origin, seq := range answer.Have {
			r.holdsLocked(p, origin, seq)
		}
		if len(p.over) > r.overLimitLocked() {
			t.Errorf("%d origins are kept of one peer", len(p.over))
		}
	})
}

// fixed answers every call with the same bytes.
type fixed struct {
	port
	answer []byte
}

func (p *fixed) Call(context.Context, string, string, []byte) ([]byte, error) { return p.answer, nil }

func FuzzDecodeStateAnswer(f *testing.F) {
	r := fuzzReplica(f)
	v := r.cfg.Store.View()
	piece, _ := v.Piece("", 1<<20)
	seed(f, stateAnswer{Version: "1", Heads: v.EncodeHeads(), Piece: piece, Digests: digests(v), Algorithm: hostdb.DigestAlgorithm},
		stateAnswer{Version: "1", Last: []byte("k"), Algorithm: hostdb.DigestAlgorithm})
	peers := &fixed{port: port{newFabric(), "n"}}
	r.cfg.Peers = peers
	f.Fuzz(func(t *testing.T, b []byte) {
		peers.answer = b
		answer, err := r.askState(t.Context(), "x", "1", "khosts\x00a")
		if err != nil {
			return
		}
		if _, err := hostdb.StateOf(answer.Heads, [][]byte{answer.Piece}); err != nil && !errors.Is(err, hostdb.ErrInvalid) {
			t.Logf("not taken: %v", err)
		}
	})
}

func FuzzDecodeHistoryAnswer(f *testing.F) {
	r := fuzzReplica(f)
	origin := r.cfg.Store.Origin()
	ops, err := r.cfg.Store.Operations(origin, 0, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	seed(f, historyAnswer{Ops: ops}, historyAnswer{Gone: true}, historyAnswer{Busy: true, RetryMS: 1 << 40})
	peers := &fixed{port: port{newFabric(), "n"}}
	r.cfg.Peers = peers
	f.Fuzz(func(t *testing.T, b []byte) {
		peers.answer = b
		answer, err := r.askHistory(t.Context(), "x", origin, 3, 1<<20)
		if err == nil && len(answer.Ops) > 3 {
			t.Errorf("%d operations up to the third were taken", len(answer.Ops))
		}
	})
}

func FuzzDecodeBase(f *testing.F) {
	r := fuzzReplica(f)
	seed(f, baseRequest{Bytes: 10}, baseAnswer{State: stateAnswer{Version: "1", Last: []byte("khosts\x00a")}, Time: 5})
	peers := &fixed{port: port{newFabric(), "n"}}
	r.cfg.Peers = peers
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = r.serveBase(t.Context(), "x", b)
		var answer baseAnswer
		if decode(b, &answer) == nil && !answer.State.Busy {
			peers.answer = b
			if r.takeBase(t.Context(), "x") == nil && r.cfg.Store.View().Applied() != 3 {
				t.Error("a base changed the state")
			}
		}
	})
}
