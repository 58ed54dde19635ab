package hostdb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// foreign are operations of one origin that no Store would make, one for each list of effects.
func foreign(t failer, origin uint64, at hostdb.Time, sources []*hostdb.Source, effects ...[]hostdb.Effect) [][]byte {
	t.Helper()
	enc := cbor.CoreDetEncOptions()
	enc.String = cbor.StringToByteString
	mode, err := enc.EncMode()
	if err != nil {
		t.Fatalf("encoder: %v", err)
	}
	var raws [][]byte
	var after []byte
	for i, list := range effects {
		op := hostdb.Operation{Version: 1, Origin: origin, Seq: uint64(i + 1), After: after, Time: at + hostdb.Time(i), User: "m\x00\n", Log: "\x1b[2J\xff", Effects: list}
		if i == 0 {
			op.Node = "stranger"
		}
		if sources != nil {
			op.Source = sources[i%len(sources)]
		}
		raw, err := mode.Marshal(&op)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		back, err := hostdb.ParseOperation(raw)
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		hash := back.Hash()
		raws, after = append(raws, raw), hash[:]
	}
	return raws
}

// Names that share a row would make the state depend on what came first, and a restart would forget one of them.
func TestNamesThatShareARow(t *testing.T) {
	set := func(ns, key, value string) []hostdb.Effect {
		return []hostdb.Effect{{Kind: hostdb.CreateKey, NS: ns, Key: key}, {Kind: hostdb.SetLeaf, NS: ns, Key: key, Path: []string{"x"}, Value: hostdb.Text(value)}}
	}
	put := func(key, member string) []hostdb.Effect {
		return []hostdb.Effect{{Kind: hostdb.CreateKey, NS: "tags", Key: key}, {Kind: hostdb.PutMember, NS: "tags", Key: key, Member: member, Order: member}}
	}
	at := hostdb.TimeOf(openBox(t, "x").clock.now)
	one := foreign(t, 1, at, nil, set("a\x00b", "c", "1"), put("k", "m\x00n"), []hostdb.Effect{{Kind: hostdb.SetLeaf, NS: "tags", Key: "k", Path: []string{"p\x00q"}, Value: "s1"}})
	two := foreign(t, 2, at, nil, set("a", "b\x00c", "2"), put("k\x00m", "n"), set("tags", "k", "3"))
	var views []hostdb.View
	for _, order := range [][][][]byte{{one, two}, {two, one}} {
		b := openBox(t, "box")
		for _, raws := range order {
			if n, err := b.store.Apply(context.Background(), raws); err != nil || n != len(raws) {
				t.Fatalf("apply: %d, %v", n, err)
			}
		}
		views = append(views, b.store.View())
		b.restart(t)
		views = append(views, b.store.View())
	}
	for _, v := range views[1:] {
		if digests(v) != digests(views[0]) || picture(v) != picture(views[0]) {
			t.Errorf("answers differ:\n%s%s\n%s%s", digests(views[0]), picture(views[0]), digests(v), picture(v))
		}
	}
}

// Whatever comes from others, every reader of the state and of history answers.
func TestReadersSurviveForeignOperations(t *testing.T) {
	names := []string{"", "..", ".git", "-rf", "a/b", "../../x", "a\nb", "\"", "x\x00y", ".members", ".default", "\xff", "@k", "#", " ", strings.Repeat("n", 4096)}
	deepList := hostdb.Value("s1")
	for range 3_000 {
		deepList = hostdb.Value("l" + string(appendUvarint(nil, len(deepList))) + string(deepList))
	}
	values := []hostdb.Value{"", "s", "p", "pnonsense: [", "l", "m", "x", "l\x05s", "l\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "m\x01k\x02s1", "m\x00\x02s1",
		"s\xff\xfe\x00\n\t: #", "pnull", deepList, hostdb.Value("s" + strings.Repeat("&a [*a", 1000))}
	paths := [][]string{nil, {""}, {"", ""}, {"a", "", "b"}, {"a\x00b"}, make([]string, 5_000), {"Network", "IP"}, {strings.Repeat("p", 10_000)}, {"VM", "Box"}, {"DNS"}}
	stamps := []*hostdb.Stamp{nil, {}, {Time: math.MaxUint64, Origin: math.MaxUint64}, {Time: 1, Origin: 1}}
	var effects [][]hostdb.Effect
	for i := range 120 {
		ns := []string{"hosts", "tags", ".system", names[i%len(names)]}[i%4]
		key := names[i*7/3%len(names)]
		list := []hostdb.Effect{{Kind: hostdb.CreateKey, NS: ns, Key: key, From: names[i*5%len(names)]}}
		for k := hostdb.Kind(0); k < 12; k++ {
			n := i + int(k)
			list = append(list, hostdb.Effect{Kind: k, NS: ns, Key: key, Path: paths[n%len(paths)], Value: values[n*3%len(values)], Member: names[n%len(names)],
				Order: []string{"", "\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "a"}[n%4], Text: []string{"", "no newline", "# x\nweb1\n"}[n%3],
				Base: stamps[n/12%len(stamps)], Replaces: stamps[n/5%len(stamps)], From: names[n%len(names)]})
		}
		effects = append(effects, list)
	}
	sources := []*hostdb.Source{{Seconds: math.MaxInt64, Zone: 1 << 40}, {Seconds: math.MinInt64, Zone: -1 << 40, Email: "<\n>", Ref: "\x00"}, {Seconds: 253402300799, Zone: 1439}, nil}
	b := openBox(t, "box")
	raws := foreign(t, 99, hostdb.TimeOf(b.clock.now), sources, effects...)
	if n, err := b.store.Apply(t.Context(), raws); err != nil || n != len(raws) {
		t.Fatalf("apply: %d, %v", n, err)
	}
	before := picture(b.store.View()) + digests(b.store.View())
	b.restart(t)
	if after := picture(b.store.View()) + digests(b.store.View()); after != before {
		t.Errorf("a restart changed what there is")
	}
	v := b.store.View()
	list := revisionsOf(t, b)
	if len(list) != len(raws) {
		t.Fatalf("%d revisions of %d operations are shown", len(list), len(raws))
	}
	for _, r := range list {
		if _, err := json.Marshal(r.At); err != nil {
			t.Fatalf("the time of %s cannot be shown: %v", r.ID, err)
		}
	}
	for i := 0; i < len(list); i += 29 {
		then, want := at(t, b, list[i].ID), upTo(t, b, list[i].ID)
		if picture(then) != picture(want) {
			t.Fatalf("as of %s the state differs", list[i].ID)
		}
	}
	for _, ns := range append(v.Namespaces(), names...) {
		for key := range v.Keys(ns) {
			item, _ := v.Get(ns, key)
			if _, err := json.Marshal(item.Data()); err != nil {
				t.Errorf("%q/%q as JSON: %v", ns, key, err)
			}
			for _, what := range []hostdb.Resource{hostdb.Data, hostdb.Members, hostdb.Perms} {
				_, _ = b.store.Blame(t.Context(), v, hostdb.Scope{NS: ns, Key: key, What: what})
			}
			if _, _, err := b.store.Revisions(t.Context(), hostdb.RevisionQuery{Scope: hostdb.Scope{NS: ns, Key: key}}); err != nil {
				t.Errorf("revisions of %q/%q: %v", ns, key, err)
			}
			if _, _, err := b.store.Formerly(t.Context(), hostdb.View{}, hostdb.Stamp{}, ns, key); err != nil {
				t.Errorf("former name of %q/%q: %v", ns, key, err)
			}
		}
	}
	conflicts := 0
	for c := range v.AllConflicts() {
		conflicts++
		_, _, _ = b.store.Sides(c)
	}
	if conflicts == 0 {
		t.Error("there are no conflicts")
	}
	for i, r := range list {
		if i%9 != 0 {
			continue
		}
		was, is := at(t, b, r.ID.Before()), at(t, b, r.ID)
		_, _ = b.store.Update(t.Context(), hostdb.Request{User: "u", Log: "undo"}, func(tx *hostdb.Tx) error { return tx.Undo(r, was, is, i%2 == 0) })
	}
	for _, cut := range []string{"1990-01-01", "2023-11-14", "90m", "9999-12-31"} {
		if _, err := b.store.Cut(t.Context(), cut); err != nil {
			t.Errorf("%s: %v", cut, err)
		}
	}
}

func appendUvarint(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// A state of the past has an operation whole or not at all, whatever arrives while it is made.
func TestPastHasWholeOperations(t *testing.T) {
	b := openBox(t, "box")
	write := func(key, value string) hostdb.Stamp {
		b.clock.now = b.clock.now.Add(1e9)
		c, err := b.update(t, put("hosts", key, parse(t, value)))
		if err != nil {
			t.Fatal(err)
		}
		return c.Revision
	}
	for i := range 20 {
		write(fmt.Sprintf("h%d", i), "{x: 0}")
	}
	cut := write("one", "{x: 1}")
	late := foreign(t, 5, cut.Time-1, nil, []hostdb.Effect{
		{Kind: hostdb.CreateKey, NS: "hosts", Key: "later"}, {Kind: hostdb.CreateKey, NS: "hosts", Key: "other"}, {Kind: hostdb.CreateKey, NS: "hosts", Key: "one"}})
	write("later", "{x: 2}")
	scans := 0
	arriving := &arrives{Memory: b.storage, then: func() {
		if scans++; scans == 2 { // how far it is was counted; the keys are taken anew now
			if _, err := b.store.Apply(context.Background(), late); err != nil {
				t.Errorf("apply: %v", err)
			}
		}
	}}
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return arriving, nil }, NodeID: "box", Clock: b.clock})
	if err != nil {
		t.Fatal(err)
	}
	b.store, scans = s, 0
	then := at(t, b, cut)
	if scans < 2 {
		t.Fatalf("the past was made with %d scans", scans)
	}
	if then.Exists("hosts", "later") != then.Exists("hosts", "other") {
		t.Errorf("a part of an operation: later is there %t, other %t", then.Exists("hosts", "later"), then.Exists("hosts", "other"))
	}
	if now := at(t, b, cut); !now.Exists("hosts", "later") || !now.Exists("hosts", "other") {
		t.Errorf("what arrived late is missing from the past: %q", slices.Collect(now.Keys("hosts")))
	}
}

// arrives is a storage that does something after each scan of revisions and histories.
type arrives struct {
	*hostdbtest.Memory
	then func()
}

func (a *arrives) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	err := a.Memory.Scan(prefix, from, fn)
	if prefix[0] == 't' || prefix[0] == 'h' {
		a.then()
	}
	return err
}
