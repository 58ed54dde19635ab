package lease

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

func appendRequest(b []byte, command any, snapshot []byte) []byte {
	switch q := command.(type) {
	case *raft.AppendEntriesRequest:
		return appendAppendRequest(b, q)
	case *raft.RequestVoteRequest:
		return appendVoteRequest(b, q)
	case *raft.RequestPreVoteRequest:
		return appendPreVoteRequest(b, q)
	case *raft.InstallSnapshotRequest:
		return append(appendSnapshotRequest(b, q), snapshot...)
	}
	return b
}

var sampleHead = head{kind: appendKind, group: [16]byte{1, 2}, generation: 7, from: 0xaa, to: 0xbb, protocol: 3}

func sampleRequests() map[rpcKind]any {
	return map[rpcKind]any{
		appendKind: &raft.AppendEntriesRequest{Term: 300, PrevLogEntry: 1, PrevLogTerm: 2, LeaderCommitIndex: 3, Entries: []*raft.Log{
			{Index: 4, Term: 300, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("x"), AppendedAt: time.Unix(1, 1)},
			{Index: 5, Term: 300, Type: raft.LogBarrier},
			{Index: 6, Term: 300, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers(3))},
		}},
		voteKind:       &raft.RequestVoteRequest{Term: 1, LastLogIndex: 2, LastLogTerm: 3, LeadershipTransfer: true},
		preVoteKind:    &raft.RequestPreVoteRequest{Term: 1, LastLogIndex: 2, LastLogTerm: 3},
		snapshotKind:   &raft.InstallSnapshotRequest{SnapshotVersion: 1, Term: 1, LastLogIndex: 2, LastLogTerm: 3, Configuration: raft.EncodeConfiguration(servers(1)), ConfigurationIndex: 4, Size: 4},
		timeoutNowKind: &raft.TimeoutNowRequest{},
	}
}

// The bytes of messages stay as they are: a build before and one after this speak them.
func TestWireBytes(t *testing.T) {
	head := "01" + "01020000000000000000000000000000" + "0000000000000007" + "00000000000000aa" + "00000000000000bb" + "03"
	for kind, want := range map[rpcKind]string{
		voteKind:       "02" + head[2:] + "010203" + "01",
		preVoteKind:    "03" + head[2:] + "010203",
		timeoutNowKind: "05" + head[2:],
	} {
		h := sampleHead
		h.kind = kind
		if got := hex.EncodeToString(appendRequest(h.append(nil), sampleRequests()[kind], nil)); got != want {
			t.Errorf("%v:\n%s, want\n%s", kind, got, want)
		}
	}
	beat := &raft.AppendEntriesRequest{Term: 300}
	if got, want := hex.EncodeToString(appendRequest(sampleHead.append(nil), beat, nil)), head+"ac02"+"00000000"; got != want {
		t.Errorf("heartbeat: %s, want %s", got, want)
	}
	one := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 2, PrevLogTerm: 3, LeaderCommitIndex: 4, Entries: []*raft.Log{{Index: 5, Term: 6, Data: []byte("d"), Extensions: []byte("e"), AppendedAt: time.Unix(0, 7)}}}
	if got, want := hex.EncodeToString(appendRequest(nil, one, nil)), "01020304"+"01"+"050600"+"0000000000000007"+"0164"+"0165"; got != want {
		t.Errorf("append: %s, want %s", got, want)
	}
	install := &raft.InstallSnapshotRequest{SnapshotVersion: 1, Term: 2, LastLogIndex: 3, LastLogTerm: 4, Configuration: []byte("c"), ConfigurationIndex: 5, Size: 3}
	if got, want := hex.EncodeToString(appendRequest(nil, install, []byte("abc"))), "01020304"+"0163"+"05"+"03616263"; got != want {
		t.Errorf("snapshot: %s, want %s", got, want)
	}
	for want, answer := range map[string]any{
		"0103" + "0905" + "0100": &raft.AppendEntriesResponse{RPCHeader: headerOf(0), Term: 9, LastLog: 5, Success: true},
		"0203" + "09" + "01":     &raft.RequestVoteResponse{RPCHeader: headerOf(0), Term: 9, Granted: true},
		"0303" + "09" + "00":     &raft.RequestPreVoteResponse{RPCHeader: headerOf(0), Term: 9},
		"0403" + "09" + "01":     &raft.InstallSnapshotResponse{RPCHeader: headerOf(0), Term: 9, Success: true},
		"0503":                   &raft.TimeoutNowResponse{RPCHeader: headerOf(0)},
	} {
		if b, err := appendAnswer(answer); err != nil || hex.EncodeToString(b) != want {
			t.Errorf("%T: %x, %v, want %s", answer, b, err, want)
		}
	}
	if _, err := appendAnswer(nil); err == nil {
		t.Error("an answer of nothing")
	}
}

// What a later build adds behind a message is skipped; what is cut short, or would make raft panic, is refused.
func TestWireBad(t *testing.T) {
	for kind, command := range sampleRequests() {
		b := appendRequest(nil, command, []byte("snap"))
		want, data, err := parseRequest(kind, reader{b: b}, headerOf(0))
		if err != nil || kind == snapshotKind && string(data) != "snap" {
			t.Fatalf("%v: %q, %v", kind, data, err)
		}
		if got, _, err := parseRequest(kind, reader{b: append(b, "more"...)}, headerOf(0)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v with more behind: %+v, %v", kind, got, err)
		}
		for n := range len(b) {
			if _, _, err := parseRequest(kind, reader{b: b[:n]}, headerOf(0)); !errors.Is(err, errMalformed) {
				t.Errorf("%v, the first %d of %d bytes: %v", kind, n, len(b), err)
			}
		}
	}
	entry := func(e raft.Log) []byte {
		return appendRequest(nil, &raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{&e}}, nil)
	}
	many := &raft.AppendEntriesRequest{Term: 1}
	for range maxEntries + 1 {
		many.Entries = append(many.Entries, &raft.Log{})
	}
	// A list of servers that says to have four thousand million of them.
	bomb := []byte("\x81\xa7Servers\xdd\xff\xff\xff\xff")
	for what, c := range map[string]struct {
		kind rpcKind
		b    []byte
	}{
		"unknown kind":            {99, nil},
		"no kind":                 {0, nil},
		"entry of unknown type":   {appendKind, entry(raft.Log{Type: 77})},
		"entry of a former type":  {appendKind, entry(raft.Log{Type: raft.LogAddPeerDeprecated})},
		"no configuration":        {appendKind, entry(raft.Log{Type: raft.LogConfiguration, Data: []byte{0xc1}})},
		"huge configuration":      {appendKind, entry(raft.Log{Type: raft.LogConfiguration, Data: bomb})},
		"too many entries":        {appendKind, appendRequest(nil, many, nil)},
		"more entries than bytes": {appendKind, []byte{1, 0, 0, 0, 200, 1, 1, 1}},
		"former snapshot":         {snapshotKind, appendRequest(nil, &raft.InstallSnapshotRequest{SnapshotVersion: 0}, nil)},
		"snapshot without voters": {snapshotKind, appendRequest(nil, &raft.InstallSnapshotRequest{SnapshotVersion: 1, Configuration: []byte{0xc1}}, nil)},
		"overflowing number":      {voteKind, bytes.Repeat([]byte{0xff}, 40)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, err := parseRequest(c.kind, reader{b: c.b}, headerOf(0)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", what, err)
		}
		runtime.ReadMemStats(&after)
		if d := after.TotalAlloc - before.TotalAlloc; d > 8<<20 {
			t.Errorf("%s takes %d MiB", what, d>>20)
		}
	}
	if err := parseAnswer([]byte{byte(voteKind), 3, 1, 1}, new(raft.AppendEntriesResponse), headerOf(0)); !errors.Is(err, errMalformed) {
		t.Errorf("answer to something else: %v", err)
	}
}

func FuzzRaftRequest(f *testing.F) {
	for kind, command := range sampleRequests() {
		h := sampleHead
		h.kind = kind
		f.Add(appendRequest(h.append(nil), command, []byte("snap")))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, r, err := parseHead(b)
		if err != nil {
			return
		}
		if !bytes.Equal(h.append(nil), b[:headSize]) {
			t.Fatal("a head became another")
		}
		command, data, err := parseRequest(h.kind, r, headerOf(0))
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			return
		}
		// What was read can be written, and reads the same.
		again, dataAgain, err := parseRequest(h.kind, reader{b: appendRequest(nil, command, data)}, headerOf(0))
		if err != nil || !reflect.DeepEqual(command, again) || !bytes.Equal(data, dataAgain) {
			t.Fatalf("%+v became %+v, %v", command, again, err)
		}
	})
}

func FuzzRaftAnswer(f *testing.F) {
	f.Add([]byte{1, 3, 9, 5, 1, 0})
	f.Add([]byte{2, 3, 9, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, into := range []any{new(raft.AppendEntriesResponse), new(raft.RequestVoteResponse), new(raft.RequestPreVoteResponse), new(raft.InstallSnapshotResponse), new(raft.TimeoutNowResponse)} {
			if err := parseAnswer(b, into, headerOf(0)); err != nil {
				continue
			}
			out, err := appendAnswer(into)
			if err != nil {
				t.Fatal(err)
			}
			again := reflect.New(reflect.TypeOf(into).Elem()).Interface()
			if err := parseAnswer(out, again, headerOf(0)); err != nil || !reflect.DeepEqual(into, again) {
				t.Fatalf("%+v became %+v, %v", into, again, err)
			}
		}
	})
}

// loop answers each call at once, without a network.
type loop struct{ h mesh.Handler }

func (l *loop) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	return l.CallUrgent(ctx, node, name, req)
}

func (l *loop) CallUrgent(ctx context.Context, _, _ string, req []byte) ([]byte, error) {
	return l.h(ctx, mesh.Caller{ID: meshtest.ID(0)}, req)
}
func (l *loop) Handle(_ string, h mesh.Handler) { l.h = h }

// A heartbeat there and back, without the network: it is sent thirteen times a second to each follower, for ever.
func BenchmarkHeartbeat(b *testing.B) {
	l := new(loop)
	a := openTransport(b, nobody{}, 0)
	a.cfg.Mesh = l
	f := openTransport(b, l, 1)
	answer := raft.RPCResponse{Response: &raft.AppendEntriesResponse{RPCHeader: headerOf(1), Term: 7, Success: true}}
	f.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.RespChan <- answer })
	id, addr := serverOf(1, 1), addrOf(1)
	q, resp := &raft.AppendEntriesRequest{RPCHeader: headerOf(0), Term: 7, Leader: headerOf(0).Addr}, new(raft.AppendEntriesResponse)
	b.ReportAllocs()
	for b.Loop() {
		if err := a.AppendEntries(id, addr, q, resp); err != nil {
			b.Fatal(err)
		}
	}
}

// The same over TLS and the memory network.
func BenchmarkHeartbeatOverMesh(b *testing.B) {
	nodes := meshtest.Start(b, 2)
	a, f := openTransport(b, nodes[0], 0), openTransport(b, nodes[1], 1)
	answer := raft.RPCResponse{Response: &raft.AppendEntriesResponse{RPCHeader: headerOf(1), Term: 7, Success: true}}
	f.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.RespChan <- answer })
	id, addr := serverOf(1, 1), addrOf(1)
	q, resp := &raft.AppendEntriesRequest{RPCHeader: headerOf(0), Term: 7, Leader: headerOf(0).Addr}, new(raft.AppendEntriesResponse)
	b.ReportAllocs()
	for b.Loop() {
		if err := a.AppendEntries(id, addr, q, resp); err != nil {
			b.Fatal(err)
		}
	}
}
