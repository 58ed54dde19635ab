package hostdb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What loading makes of all keys at once is what folding made of them operation by operation.
func TestIndexOfAllAtOnce(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := emptySnapshot()
		for seq := range uint64(1 + r.IntN(300)) {
			op := randomOperation(r, s, seq+1)
			s, _ = s.fold(op, Hash{})
		}
		var order []*folding
		var ids []string
		for k, e := range s.entries.all() {
			c := *e
			c.sumDoc, c.sumMembers, c.doc = sum256{}, sum256{}, Document{}
			f := &folding{entry: &c, dataTouched: true, permsTouched: true}
			f.finishLoaded()
			order, ids = append(order, f), append(ids, k)
		}
		n := emptySnapshot()
		n.index(order, ids)
		want, got := indexes(s), indexes(n)
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if !reflect.DeepEqual(want[name], got[name]) {
				t.Fatalf("seed %d: %s is\n%v\nfolded one by one:\n%v", seed, name, got[name], want[name])
			}
		}
	}
}

// indexes are all that a snapshot holds, in a form that can be compared.
func indexes(s *snapshot) map[string]any {
	entries := map[string]string{}
	for k, e := range s.entries.all() {
		entries[k] = fmt.Sprint(e.ns, "/", e.key, e.exists(), e.doc.YAML(), e.sumDoc, e.sumMembers, e.acl)
	}
	out := map[string]any{
		"entries": entries, "keys": pairs(s.keys), "namespaces": s.namespaces, "holders": pairs(s.holders),
		"active": pairs(s.active), "names": pairs(s.names), "addrs": pairs(s.addrs), "modified": pairs(s.modified), "digests": pairs(s.digests),
		"shape of entries": shape(s.entries.root), "shape of addrs": shape(s.addrs.root), "sizes": []int{s.entries.len(), s.names.len(), s.groups.len()},
	}
	groups := map[string][]string{}
	for k := range s.groups.all() {
		ns, key, _ := strings.Cut(k, "\x00")
		groups[k] = s.expanded(ns, key)
	}
	out["groups"] = groups
	for k, n := range pairs(s.keys) { // a count of zero is as good as none
		if n == 0 {
			delete(out["keys"].(map[string]int), k)
		}
	}
	return out
}

func pairs[V any](t tree[string, V]) map[string]V { return maps.Collect(t.all()) }

func shape[V any](n *treeNode[string, V]) string {
	if n == nil {
		return "."
	}
	return "(" + shape(n.left) + n.key + shape(n.right) + ")"
}

// randomOperation writes to few keys, so that they are created, deleted, made anew and hold each other.
func randomOperation(r *rand.Rand, s *snapshot, seq uint64) *Operation {
	op := &Operation{Version: 1, Origin: 1, Seq: seq, Time: Time(seq << 20)}
	name := func() string { return fmt.Sprintf("k%d", r.IntN(12)) }
	for range 1 + r.IntN(4) {
		x := Effect{NS: []string{Hosts, Tags, "rack"}[r.IntN(3)], Key: name(), Base: &Stamp{}}
		if e, ok := s.entries.get(id(x.NS, x.Key)); ok {
			*x.Base = e.deleted
		}
		switch r.IntN(9) {
		case 0:
			x.Kind, x.Base = DeleteKey, nil
		case 1, 2, 3:
			x.Kind = CreateKey
		case 4, 5:
			x.Kind, x.Path, x.Value = SetLeaf, []string{"Network", "IP"}, Text(fmt.Sprintf("10.0.0.%d", r.IntN(9)))
			if r.IntN(3) == 0 {
				x.Path, x.Value = []string{"Status"}, Text("retired")
			}
		case 6:
			x.Kind, x.Value = SetPerms, Text("ops: {data: RW}\n")
			if r.IntN(2) == 0 {
				x.Key = ""
			}
		default:
			x.Kind, x.Member, x.Order = PutMember, name(), "V"
			if r.IntN(3) == 0 {
				x.Member = "@" + x.Member
			}
			if r.IntN(4) == 0 {
				x.Kind = RemoveMember
			}
		}
		op.Effects = append(op.Effects, x)
	}
	return op
}
