package node

import (
	"bytes"
	"encoding/json"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// heldBy is what others hold.
type heldBy map[uint64]uint64

func (h heldBy) HeldElsewhere(origin uint64) uint64 { return h[origin] }

func TestWriteUnreplicated(t *testing.T) {
	p := openPast(t, "a")
	p.write("alice", "1", put("hosts/web1", "{CPU: 2}"))
	p.write("bob", "2", put("hosts/web1", "{CPU: 4}"))
	want := p.write("alice", "3", put("hosts/web2", "{}"))
	lines := func(others holders) (list []api.ExportedOperation) {
		var out bytes.Buffer
		n, err := writeUnreplicated(t.Context(), &out, p.store, others)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(&out)
		for dec.More() {
			var x api.ExportedOperation
			if err := dec.Decode(&x); err != nil {
				t.Fatal(err)
			}
			list = append(list, x)
		}
		if end := list[len(list)-1]; !end.End || end.Count != n || len(list) != n+1 {
			t.Errorf("the end is %+v after %d lines, %d were written", end, len(list), n)
		}
		return list[:n]
	}
	origin, seq := p.store.Origin(), p.store.View().Seq(p.store.Origin())
	if all := lines(heldBy{}); len(all) < 3 {
		t.Errorf("nobody holds anything: %d operations", len(all))
	}
	last := lines(heldBy{origin: seq - 1})
	if len(last) != 1 || last[0].Revision != want || last[0].User != "alice" || last[0].Log != "3" {
		t.Fatalf("the others hold all but the last: %+v", last)
	}
	if op, err := hostdb.ParseOperation(last[0].Raw); err != nil || op.Seq != seq {
		t.Errorf("what is exported is no operation: %v", err)
	}
	if none := lines(heldBy{origin: seq + 5}); len(none) != 0 {
		t.Errorf("the others hold all: %+v", none)
	}
}

// A node that was removed meets nobody, so that nothing is known to be held elsewhere; what retention dropped was.
func TestWriteUnreplicatedAfterRetention(t *testing.T) {
	p := openPast(t, "a")
	p.write("alice", "1", put("hosts/web1", "{CPU: 2}"))
	old := p.store.View().Seq(p.store.Origin())
	at, err := p.store.Newest(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := p.write("bob", "2", put("hosts/web1", "{CPU: 4}"))
	if n, err := p.store.Retain(t.Context(), hostdb.Retention{Until: at}); err != nil || n == 0 {
		t.Fatalf("%d dropped: %v", n, err)
	}
	var out bytes.Buffer
	n, err := writeUnreplicated(t.Context(), &out, p.store, heldBy{})
	if err != nil || n != 1 || !bytes.Contains(out.Bytes(), []byte(want)) {
		t.Errorf("%d exported of those after %d: %v", n, old, err)
	}
}
