package hostdb_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

// fieldOwner is a person at one box who edits some fields of a document and knows what they are.
type fieldOwner struct {
	*box
	mine map[string]string // path with slashes -> value; "" when removed
}

var proveFields = []string{"cpu", "disk", "Network/IP", "Network/MAC", "VM/Disk/size", "VM/Disk/kind", "VM/CPUs", "note"}

// edit changes one of the owner's fields in one of the ways that people have, and leaves the others as they are read.
func (o *fieldOwner) edit(t *rapid.T) {
	field := rapid.SampledFrom(slices.Sorted(maps.Keys(o.mine))).Draw(t, "field")
	path := strings.Split(field, "/")
	value := rapid.SampledFrom([]string{"1", "0755", "x", "[a, b]", "[]", "other"}).Draw(t, "value")
	doc, err := hostdb.ParseDocument([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	remove := rapid.IntRange(0, 3).Draw(t, "remove") == 0
	depth := rapid.IntRange(0, len(path)).Draw(t, "depth") // how much of the document is put as a whole
	_, err = o.store.Update(context.Background(), hostdb.Request{User: "test"}, func(tx *hostdb.Tx) error {
		now := tx.View().Data("hosts", "web1")
		switch {
		case remove && depth == len(path):
			return tx.DeletePath("hosts", "web1", path)
		case depth == len(path):
			return tx.PutPath("hosts", "web1", path, doc)
		}
		part := without(now.At(path[:depth]...), hostdb.PathOf(path[depth:]...))
		if !remove {
			v, _ := doc.Value()
			part = append(part, hostdb.Leaf{Path: hostdb.PathOf(path[depth:]...), Value: v})
		}
		if len(part) == 0 {
			part = append(part, hostdb.Leaf{Value: refMapping})
		}
		if depth == 0 {
			return tx.Put("hosts", "web1", hostdb.NewDocument(part...))
		}
		return tx.PutPath("hosts", "web1", path[:depth], hostdb.NewDocument(part...))
	})
	switch {
	case err != nil && !refused(err):
		t.Fatalf("edit of %s at %s: %v", field, o.name, err)
	case err == nil && remove:
		o.mine[field] = ""
	case err == nil:
		o.mine[field] = doc.YAML()
	}
}

// without are the leaves of a document but for what stands at a path, and for marks of an empty mapping above it.
func without(d hostdb.Document, path hostdb.Path) []hostdb.Leaf {
	var out []hostdb.Leaf
	for p, v := range d.Leaves() {
		if p != path && !path.Above(p) && !p.Above(path) {
			out = append(out, hostdb.Leaf{Path: p, Value: v})
		}
	}
	return out
}

// Two to five people edit one document at as many boxes, each their own fields, as paths, as parts and as whole documents, and
// hear of each other now and then. Whatever the order, every field is what its own editor left.
//
// Long: go test ./hostdb -run TestProveFields -rapid.checks=50000 -timeout 0
func TestProveFieldsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 5).Draw(t, "boxes")
		var owners []*fieldOwner
		for i := range n {
			owners = append(owners, &fieldOwner{openBox(t, fmt.Sprintf("box%d", i)), map[string]string{}})
		}
		first := owners[0]
		whole, err := hostdb.ParseDocument([]byte("{cpu: 2, disk: 5, note: n, Network: {IP: 10.0.0.1, MAC: aa}, VM: {CPUs: 2, Disk: {size: 1, kind: raw}}}"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.update(t, put("hosts", "web1", whole)); err != nil {
			t.Fatal(err)
		}
		for i, f := range proveFields {
			o := owners[i%n]
			o.mine[f] = whole.At(strings.Split(f, "/")...).YAML()
		}
		for _, o := range owners {
			deliverAll(t, first.box, o.box)
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			o, other := rapid.SampledFrom(owners).Draw(t, "box"), rapid.SampledFrom(owners).Draw(t, "other")
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				deliverAll(t, o.box, other.box)
			case 1:
				o.clock.now = o.clock.now.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond)
			default:
				o.edit(t)
			}
		}
		for range 2 {
			for _, a := range owners {
				for _, b := range owners {
					b.clock.now = b.clock.now.Add(time.Minute)
					deliverAll(t, a.box, b.box)
				}
			}
		}
		for _, o := range owners {
			for _, editor := range owners {
				for f, want := range editor.mine {
					got := o.store.View().Data("hosts", "web1").At(strings.Split(f, "/")...)
					if got.Exists() != (want != "") || got.Exists() && got.YAML() != want {
						t.Fatalf("at %s, %s is %q, its only editor left %q:\n%s", o.name, f, got.YAML(), want, o.store.View().Data("hosts", "web1").YAML())
					}
				}
			}
			for p, v := range o.store.View().Data("hosts", "web1").Leaves() {
				if v != refMapping && !v.IsNull() && !slices.Contains(proveFields, p.String()) {
					t.Fatalf("nobody wrote %s", p)
				}
			}
			for c := range o.store.View().Conflicts("hosts", "web1") {
				if slices.Contains(proveFields, c.At) {
					t.Fatalf("a conflict is listed where only one person writes: %v", c)
				}
			}
		}
	})
}
