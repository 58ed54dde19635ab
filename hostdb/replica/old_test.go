package replica

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/hostdb"
)

// speakOld makes the calls from and to a node what they were before the protocol had numbers: it knows two requests, and of them the
// fields that there were.
func speakOld(t *testing.T, f *fabric, old string) {
	t.Helper()
	strip := func(req []byte) []byte {
		var m pullRequest
		if err := decode(req, &m); err != nil {
			t.Error(err)
		}
		if m.Vector == nil && m.Version != emptyVersion {
			t.Errorf("an old build is asked by who does not say what it holds: %+v", m)
		}
		b, err := encode(pullRequest{Vector: m.Vector, Bytes: m.Bytes})
		if err != nil {
			t.Error(err)
		}
		return b
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewrite = func(from, to, name string, req []byte) []byte {
		if name == pullName && (from == old || to == old) {
			return strip(req)
		}
		return req
	}
	f.hook = func(_ context.Context, from, to, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
		if from != old && to != old {
			return call()
		}
		if name != pushName && name != pullName {
			return nil, oldError{}
		}
		back, err := call()
		if err != nil || name != pullName {
			return back, err
		}
		var answer pullAnswer
		if err := decode(back, &answer); err != nil {
			return nil, err
		}
		return encode(pullAnswer{Ops: answer.Ops, More: answer.More, Version: answer.Version, Algorithm: answer.Algorithm,
			Digests: answer.Digests, Vector: answer.Vector, Busy: answer.Busy, Floor: answer.Floor})
	}
}

func TestOldBuildIsUnderstood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		a, b := &member{name: "a"}, &member{name: "b"}
		start(t, f, b, Config{JoinOperations: 10, MessageBytes: 3000})
		defer func() { b.stop() }()
		speakOld(t, f, "b")
		for i := range 100 {
			put(t, b, fmt.Sprint("b", i), "{x: 1}")
		}
		start(t, f, a, Config{JoinOperations: 10, MessageBytes: 3000})
		defer func() { a.stop() }()
		until(t, "a is synced", a.replica.Synced)
		equal(t, a, b)
		if c := a.replica.Status().Counts; c.JoinPieces != 0 { // what b pushed at first, a need not pull
			t.Errorf("%d pieces from an old build", c.JoinPieces)
		}
		revision := put(t, a, "a0", "1").Revision
		put(t, b, "b", "1")
		time.Sleep(30 * time.Second)
		equal(t, a, b)
		if !a.replica.Settled(revision, []string{"b"}) {
			t.Error("an old build's floor is not taken")
		}
		if p := a.replica.Status().Peers[0]; p.Missing != 0 || p.Ahead != 0 {
			t.Errorf("%+v", p)
		}
		// It is upgraded.
		f.set(func() { f.hook, f.rewrite = nil, nil })
		b.kill()
		start(t, f, b, Config{})
		put(t, b, "new", "1")
		time.Sleep(30 * time.Second)
		equal(t, a, b)
		a.replica.mu.Lock()
		spoken := a.replica.peers["b"].protocol
		a.replica.mu.Unlock()
		if spoken != protocol {
			t.Errorf("protocol %d is spoken with an upgraded peer", spoken)
		}
	})
}

// What an old build asks is answered as it was.
func TestOldRequestIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		a := loaded(t, f, "a", 30, Config{})
		defer func() { a.stop() }()
		body, err := encode(pullRequest{Vector: map[uint64]uint64{a.store.Origin(): 10}, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		back, err := a.replica.servePull(t.Context(), "old", body)
		if err != nil {
			t.Fatal(err)
		}
		var answer pullAnswer
		if err := decode(back, &answer); err != nil {
			t.Fatal(err)
		}
		v := a.store.View()
		if len(answer.Ops) != 20 || answer.More || answer.Vector[a.store.Origin()] != 30 || answer.Version != v.Version().String() ||
			answer.Digests[hostdb.Hosts] != v.Digest(hostdb.Hosts) || answer.Floor == 0 {
			t.Errorf("%d operations, more %v, %v", len(answer.Ops), answer.More, answer.Vector)
		}
	})
}
