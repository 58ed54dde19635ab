package hostdb

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The bytes of an operation are its identity on every node for ever. If this test fails, the format was changed:
// undo that, and add a field or an effect kind instead.
func TestOperationFormatIsFixed(t *testing.T) {
	base := Stamp{Time: 0x0123456789ab0001, Origin: 7}
	was := Stamp{Time: 0x0123456789ab0002, Origin: 8}
	op := &Operation{
		Version: 1, Origin: 0x1122334455667788, Seq: 1, After: []byte(strings.Repeat("h", 32)), Prev: &Link{Origin: 9, Seq: 10},
		Time: 0x0123456789ac0000, User: "root(alice)", Log: "why", Node: "00112233445566778899aabbccddeeff",
		Effects: []Effect{
			{Kind: CreateKey, NS: "hosts", Key: "web1", From: "web0", Base: &base},
			{Kind: SetLeaf, NS: "hosts", Key: "web1", Path: []string{"Network", "IP"}, Value: Text("10.1.0.5"), Base: &base, Replaces: &was},
			{Kind: SetLeaf, NS: "hosts", Key: "web1", Path: []string{"list"}, Value: "l\x02sa\x03p42"},
			{Kind: UnsetLeaf, NS: "hosts", Key: "web1", Path: []string{"old"}, Replaces: &was},
			{Kind: PutMember, NS: "tags", Key: "web", Member: "web1", Order: "\x00\x00\x00\x00\x01\x00\x00\x00", Text: "# why\n"},
			{Kind: RemoveMember, NS: "tags", Key: "web", Member: "@old"},
			{Kind: SetPerms, NS: "tags", Key: "web", Value: Text("ops:\n  data: RW\n")},
			{Kind: DeleteKey, NS: "hosts", Key: "web2", Replaces: &was},
		},
	}
	op.seal()
	got := hex.EncodeToString(op.raw)
	const sum = "6689bde6c0d05b08a34215c66f0b56c8ef3ed7052cdf0f7582cef3067549a3c9"
	if h := fmt.Sprintf("%x", op.Hash()); h != sum {
		t.Errorf("hash of the operation is %s, want %s; its bytes are\n%s", h, sum, got)
	}
	if origin, seq, err := PeekOperation(op.raw); err != nil || origin != op.Origin || seq != op.Seq {
		t.Errorf("peeked %x, %d, %v", origin, seq, err)
	}
	back, err := ParseOperation(op.raw)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", back.Effects[1]) == "" || back.Effects[1].Path[1] != "IP" || *back.Effects[1].Replaces != was || back.Effects[2].Value != "l\x02sa\x03p42" {
		t.Errorf("read back as %+v", back.Effects)
	}
}

// What a newer version added is kept, hashed and forwarded as it came.
func TestUnknownEffectsAreKept(t *testing.T) {
	raw, err := codec.enc.Marshal(map[int]any{1: 9, 2: uint64(5), 3: uint64(1), 6: uint64(1 << 40), 99: "new field",
		9: []map[int]any{{1: 200, 2: "hosts", 3: "web1", 77: "new"}, {1: 1, 2: "hosts", 3: "web2"}}})
	if err != nil {
		t.Fatal(err)
	}
	op, err := ParseOperation(raw)
	if err != nil {
		t.Fatal(err)
	}
	if op.known() || string(op.Raw()) != string(raw) {
		t.Error("an operation of a newer version was changed or taken for known")
	}
	s, _ := emptySnapshot().fold(op, op.Hash())
	v := View{s}
	if v.Exists(Hosts, "web1") || !v.Exists(Hosts, "web2") || v.Unfolded() != 1 {
		t.Error("known effects are not folded beside unknown ones")
	}
}

func FuzzParseOperation(f *testing.F) {
	op := &Operation{Version: 1, Origin: 1, Seq: 1, Time: 1, Effects: []Effect{{Kind: SetLeaf, NS: "hosts", Key: "a", Path: []string{"x"}, Value: "l\x01s"}}}
	op.seal()
	f.Add(op.raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		origin, seq, peekErr := PeekOperation(raw)
		op, err := ParseOperation(raw)
		if err != nil {
			return
		}
		if peekErr == nil && (origin != op.Origin || seq != op.Seq) {
			t.Fatalf("peeked %x/%d of %x/%d", origin, seq, op.Origin, op.Seq)
		}
		s, touched := emptySnapshot().fold(op, op.Hash())
		v := View{s}
		for _, ns := range append(v.Namespaces(), "hosts", "tags") {
			for key := range v.Keys(ns) {
				item, _ := v.Get(ns, key)
				_, _ = item.YAML(), item.Data().Any()
				_, _ = v.Members(ns, key), v.RawMembers(ns, key)
			}
		}
		for _, f := range touched {
			if _, err := entryPuts(f, op); err != nil {
				t.Fatalf("rows of a folded operation: %v", err)
			}
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	for _, s := range []string{"a: 1", "- a\n- b: c", "a: {b: [1, '2', \"3\"]}", "x: |\n  a\n  b\n", "? a\n: b", "a: &x 1\nb: *x", "--- ~\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDocument(text)
		if err != nil {
			return
		}
		canonical := d.YAML()
		back, err := ParseDocument([]byte(canonical))
		if err != nil {
			t.Fatalf("canonical form of %q is refused: %v\n%s", text, err, canonical)
		}
		if !back.Equal(d) || back.YAML() != canonical {
			t.Fatalf("%q is\n%s\nand comes back as\n%s", text, canonical, back.YAML())
		}
	})
}

func TestPlacesInAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var places []string
		for range rapid.IntRange(1, 40).Draw(t, "n") {
			i := rapid.IntRange(0, len(places)).Draw(t, "at")
			lo, hi := "", ""
			if i > 0 {
				lo = places[i-1]
			}
			if i < len(places) {
				hi = places[i]
			}
			p, ok := orderBetween(lo, hi)
			if !ok {
				t.Fatalf("no place between %x and %x", lo, hi)
			}
			if p <= lo || hi != "" && p >= hi {
				t.Fatalf("%x is not between %x and %x", p, lo, hi)
			}
			places = slices.Insert(places, i, p)
		}
		keep := keepInPlace(places)
		if slices.Contains(keep, false) {
			t.Fatal("a sorted list would be moved")
		}
	})
}

func TestTreeIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tree[int, int]
		want := map[int]int{}
		var old tree[int, int]
		var was map[int]int
		for i := range rapid.IntRange(1, 200).Draw(t, "n") {
			k := rapid.IntRange(0, 50).Draw(t, "k")
			if rapid.Bool().Draw(t, "set") {
				tr = tr.set(k, i)
				want[k] = i
			} else {
				tr = tr.delete(k)
				delete(want, k)
			}
			if i == 20 {
				old, was = tr, map[int]int{}
				for k, v := range want {
					was[k] = v
				}
			}
		}
		last, n := -1, 0
		for k, v := range tr.all() {
			if k <= last || want[k] != v {
				t.Fatalf("%d -> %d after %d", k, v, last)
			}
			last, n = k, n+1
		}
		if n != len(want) || tr.len() != n {
			t.Fatalf("%d pairs, len %d, want %d", n, tr.len(), len(want))
		}
		got := map[int]bool{}
		old.diff(tr, func(k, av int, inA bool, bv int, inB bool) bool {
			if inA != inB || av != bv {
				got[k] = true
			}
			return true
		})
		for k := range 51 {
			a, inA := was[k]
			b, inB := want[k]
			if changed := inA != inB || a != b; changed != got[k] {
				t.Fatalf("key %d: changed %v, diff says %v", k, changed, got[k])
			}
		}
	})
}

// A change of one key among many is found without looking at the others.
func TestDiffCostsTheChange(t *testing.T) {
	var tr tree[int, int]
	for i := range 100_000 {
		tr = tr.set(i, i)
	}
	visited := 0
	tr.diff(tr.set(rand.IntN(100_000), -1), func(int, int, bool, int, bool) bool { visited++; return true })
	if visited > 100 {
		t.Errorf("visited %d nodes for one change", visited)
	}
}

func TestPermits(t *testing.T) {
	acl := func(text string) Value {
		a, err := ParseACL([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return Text(a.YAML())
	}
	op := &Operation{Version: 1, Origin: 1, Seq: 1, Time: 1, Effects: []Effect{
		{Kind: CreateKey, NS: Tags, Key: "web"},
		{Kind: SetPerms, NS: Tags, Key: "web", Value: acl("alice: {data: RO}\nops: {data: RW}\nreaders: {members: RO}\ndns: {data/DNS: RW}")},
		{Kind: SetPerms, NS: Tags, Key: DefaultKey, Value: acl("bob: {data: RW}\nreaders: {data: RW, members: RW}")},
	}}
	s, _ := emptySnapshot().fold(op, op.Hash())
	for _, c := range []struct {
		user   string
		groups []string
		key    string
		what   Resource
		want   bool
	}{
		{"alice", []string{"ops"}, "web", Data, false}, // the user's own entry comes first
		{"carol", []string{"ops"}, "web", Data, true},
		{"carol", []string{"ops"}, "web", Members, false},
		{"carol", []string{"readers"}, "web", Members, false}, // the key's RO decides before the namespace's RW
		{"carol", []string{"readers"}, "web", Data, true},
		{"bob", nil, "web", Data, true},
		{"bob", nil, "other", Data, true},
		{"carol", []string{"dns"}, "web", Section("DNS"), true},
		{"carol", []string{"dns"}, "web", Section("LB"), false},
		{"carol", []string{"ops"}, "web", Section("LB"), true},
		{"mallory", nil, "web", Perms, false},
	} {
		if d := (View{s}).Permits(Tags, c.key, c.what, c.user, c.groups); d.Allowed != c.want || d.Rule == "" {
			t.Errorf("%s %v %s %s: %+v, want %v", c.user, c.groups, c.key, c.what, d, c.want)
		}
	}
	for _, bad := range []string{"x", "[a]", "alice: RW", "alice: {data: W}", "alice: {other: RW}"} {
		if _, err := ParseACL([]byte(bad)); err == nil {
			t.Errorf("access list %q was accepted", bad)
		}
	}
}

func TestStampText(t *testing.T) {
	s := Stamp{Time: 0x018bcfe568000001, Origin: 0xff}
	back, err := ParseStamp(s.String())
	if err != nil || back != s {
		t.Errorf("%s came back as %v, %v", s, back, err)
	}
	for _, bad := range []string{"", "x", "1.2", "018bcfe568000001.00000000000000fg", "018bcfe568000001"} {
		if _, err := ParseStamp(bad); err == nil {
			t.Errorf("%q was taken for a revision", bad)
		}
	}
}

// What is read without the parser is read as the parser reads it.
func TestPlainDocumentsReadAlike(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "Rack Number", "x", "10.1.0.1", "yes", "0755", "1e3", "null", "~", "2024-01-01", "aa:bb:cc", "12:30", "b c", "k", "",
		"true", "a: b", "a #b", "'q'", "-", "- x", "1_000", ".5", "0x1F", "a:", "é", "|", "[a]", "{}", "&a", "!t", "%", "@x", "<<", "?", "=", "a,b", "(c)"})
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		indent := 0
		for range rapid.IntRange(0, 8).Draw(t, "lines") {
			b.WriteString(strings.Repeat(" ", max(0, indent)))
			b.WriteString(word.Draw(t, "key"))
			b.WriteString(rapid.SampledFrom([]string{":", ": ", ": ", ":  ", "", " : "}).Draw(t, "colon"))
			b.WriteString(word.Draw(t, "value"))
			b.WriteString(rapid.SampledFrom([]string{"\n", "\n", "\n", "", " \n", "\r\n", "\n\n"}).Draw(t, "end"))
			indent += rapid.SampledFrom([]int{0, 0, 0, 2, -2, 1, 4}).Draw(t, "indent")
		}
		plainAsParsed(t, b.String())
	})
}

func plainAsParsed(t interface{ Fatalf(string, ...any) }, text string) {
	got, ok := readPlain(text)
	if !ok {
		return
	}
	want, err := parseYAML([]byte(text))
	if err != nil || !got.Equal(want) {
		t.Fatalf("%q is read as\n%swithout the parser, and with it as\n%s%v", text, got.YAML(), want.YAML(), err)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a:\n  b: 1\n  c: x y\nd: 10.1.0.1\n")
	f.Add("10.1.0.1")
	f.Fuzz(func(t *testing.T, text string) { plainAsParsed(t, text) })
}
