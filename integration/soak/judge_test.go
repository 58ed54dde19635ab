package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
)

func stamp(n int) hostdb.Stamp { return hostdb.Stamp{Time: hostdb.Time(n), Origin: 7} }

// TestLossIsSeen: each way in which an agent can break its word is a defect, and a history that keeps it is none.
func TestLossIsSeen(t *testing.T) {
	writes := []write{
		{kind: putDoc, outcome: acked, revision: stamp(1)}, {kind: putPath, outcome: refused},
		{kind: putPath, outcome: unknown}, {kind: putPath, outcome: acked, revision: stamp(4)},
	}
	for name, c := range map[string]struct {
		found []hostdb.Stamp
		want  string // of the defect; empty for none
	}{
		"as answered":             {[]hostdb.Stamp{stamp(1), {}, {}, stamp(4)}, ""},
		"the unknown one stands":  {[]hostdb.Stamp{stamp(1), {}, stamp(3), stamp(4)}, ""},
		"an acknowledged is lost": {[]hostdb.Stamp{stamp(1), {}, {}, {}}, "LOST at a.soak: w0-3"},
		"a refused one stands":    {[]hostdb.Stamp{stamp(1), stamp(2), {}, stamp(4)}, "a.soak has w0-1"},
		"another revision":        {[]hostdb.Stamp{stamp(1), {}, {}, stamp(5)}, "a.soak has w0-3 as " + stamp(5).String()},
	} {
		a := &agent{name: "a.soak"}
		s := &soak{start: time.Now(), agents: []*agent{a}}
		w := &writer{soak: s, home: a}
		w.ledger.writes = writes
		s.writers = []*writer{w}
		s.judgeHistory(a, [][]hostdb.Stamp{c.found})
		if c.want == "" && len(s.defects) > 0 || c.want != "" && (len(s.defects) != 1 || !strings.Contains(s.defects[0], c.want)) {
			t.Errorf("%s: %q, expected %q", name, s.defects, c.want)
		}
	}
}

// TestReplay: what must stand follows from the writes that do, in the order of their revisions and not of their sending.
func TestReplay(t *testing.T) {
	w := &writer{}
	w.ledger.writes = []write{
		{kind: putDoc, key: 1}, {kind: addMember, key: 1, tag: 2}, {kind: putPath, key: 1}, {kind: deletePath, key: 1},
		{kind: rename, key: 1}, {kind: putDoc, key: 3}, {kind: deleteKey, key: 3}, {kind: transaction, key: 1, other: true, key2: 1, other2: true},
	}
	// The path (2) was frozen on its way, and took effect after the rename to the other name was refused; 6 does not stand.
	h := replay(w, []hostdb.Stamp{stamp(1), stamp(2), stamp(9), stamp(3), {}, stamp(5), {}, {}})
	if got, want := h.hosts["w0-host1"], (doc{"By": "w0-0", "Pad": "w0-0", "A": "w0-2"}); !maps.Equal(got, want) {
		t.Errorf("w0-host1 is %v, expected %v", got, want)
	}
	if got := slices.Sorted(maps.Keys(h.tags["w0-tag2"])); !slices.Equal(got, []string{"w0-host1"}) || h.hosts["w0-host3"] == nil {
		t.Errorf("members %v, hosts %v", got, h.hosts)
	}
	h = replay(w, []hostdb.Stamp{stamp(1), stamp(2), {}, stamp(3), stamp(4), stamp(5), stamp(6), stamp(7)})
	if got, want := h.hosts["w0-host1-other"], (doc{"By": "w0-7", "Pad": "w0-0", "A": "w0-7"}); !maps.Equal(got, want) || len(h.hosts) != 1 {
		t.Errorf("hosts are %v, expected one as %v", h.hosts, want)
	}
	if got := slices.Sorted(maps.Keys(h.tags["w0-tag2"])); !slices.Equal(got, []string{"w0-host1-other"}) {
		t.Errorf("the renamed host is not the member that it was: %v", got)
	}
}
