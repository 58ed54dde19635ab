package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// fakeClock is a wall clock that tests move.
type fakeClock struct{ now time.Time }

func (c *fakeClock) Now() time.Time { return c.now }

// box is one replica under test: its storage outlives its openings.
type box struct {
	storage *hostdbtest.Memory
	store   *hostdb.Store
	clock   *fakeClock
	name    string
}

// failer is what both testing.T and rapid.T can do.
type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func openBox(t failer, name string) *box {
	b := &box{storage: hostdbtest.NewMemory(), clock: &fakeClock{time.UnixMilli(1_700_000_000_000)}, name: name}
	b.open(t)
	return b
}

func (b *box) open(t failer) {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return b.storage, nil },
		NodeID:      b.name,
		Clock:       b.clock,
	})
	if err != nil {
		t.Fatalf("open %s: %v", b.name, err)
	}
	b.store = s
}

// restart ends the replica as kill -9 does and opens what it left.
func (b *box) restart(t failer) {
	t.Helper()
	b.storage = b.storage.Snapshot()
	b.open(t)
}

func (b *box) update(t failer, fn func(tx *hostdb.Tx) error) (hostdb.Commit, error) {
	t.Helper()
	c, err := b.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, fn)
	if err != nil && !refused(err) {
		t.Fatalf("update at %s: %v", b.name, err)
	}
	return c, err
}

// refused reports whether err is one of the errors that a write of a user may meet.
func refused(err error) bool {
	for _, s := range []error{hostdb.ErrNotFound, hostdb.ErrNoParent, hostdb.ErrExists, hostdb.ErrCycle, hostdb.ErrNotMapping, hostdb.ErrNotAllowed, hostdb.ErrClock, hostdb.ErrNoNamespace} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// deliver sends operations of one origin from a to b, at most n of them, beginning with one that b may hold already.
func deliver(t failer, a, b *box, origin uint64, again, n int) {
	t.Helper()
	from := b.store.View().Seq(origin)
	from -= min(from, uint64(again))
	ops, err := a.store.Operations(origin, from, 1<<20)
	if err != nil {
		t.Fatalf("operations: %v", err)
	}
	if len(ops) > n {
		ops = ops[:n]
	}
	if _, err := b.store.Apply(context.Background(), ops); err != nil && !errors.Is(err, hostdb.ErrFuture) {
		t.Fatalf("apply %s -> %s: %v", a.name, b.name, err)
	}
}

// deliverAll brings everything that a holds to b.
func deliverAll(t failer, a, b *box) {
	t.Helper()
	for origin, seq := range a.store.View().Vector() {
		for b.store.View().Seq(origin) < seq {
			deliver(t, a, b, origin, 0, 1000)
		}
	}
}

// picture is everything a reader can see, as text.
func picture(v hostdb.View) string {
	var b strings.Builder
	for _, ns := range v.Namespaces() {
		fmt.Fprintf(&b, "%s: %d keys\n", ns, v.Len(ns))
		for key := range v.Keys(ns) {
			item, _ := v.Get(ns, key)
			acl, _ := v.Perms(ns, key)
			fmt.Fprintf(&b, "%s/%s %s %s %q raw=%q members=%q perms=%q holders=%q\n", ns, key, item.ETag(hostdb.Data), item.Revision(), item.YAML(),
				v.RawMembers(ns, key), v.Members(ns, key), acl.YAML(), v.Holders(ns, "@"+key))
		}
	}
	for key := range v.Keys(hostdb.Hosts) {
		for _, ns := range v.Namespaces() {
			fmt.Fprintf(&b, "parents of %s in %s: %q\n", key, ns, v.Parents(key, ns))
		}
	}
	for addr, host := range v.Addresses() {
		fmt.Fprintf(&b, "address %s: %s of %q\n", addr, host, v.HostsByAddr(addr))
	}
	for _, name := range []string{"h1", "h2", "h3"} {
		fmt.Fprintf(&b, "name %s: %q\n", name, v.HostsByName(name))
	}
	return b.String()
}

func digests(v hostdb.View) string {
	var b strings.Builder
	for _, ns := range v.Namespaces() {
		fmt.Fprintf(&b, "%s %s\n", ns, v.Digest(ns))
	}
	return b.String()
}

// checkIndexes holds the indexes against what can be computed from the lists themselves.
func checkIndexes(t failer, v hostdb.View) {
	t.Helper()
	for _, ns := range v.Namespaces() {
		count := 0
		parents := map[string][]string{}
		for key := range v.Keys(ns) {
			count++
			want := map[string]bool{}
			seen := map[string]bool{}
			var down func(k string)
			down = func(k string) {
				if seen[k] {
					return
				}
				seen[k] = true
				if ns == hostdb.Tags && k == hostdb.AllTag {
					for h := range v.Keys(hostdb.Hosts) {
						if v.Data(hostdb.Hosts, h).Text("Status") != "retired" {
							want[h] = true
						}
					}
				}
				for _, m := range v.DirectMembers(ns, k) {
					if inherited, ok := strings.CutPrefix(m.Name, "@"); ok {
						down(inherited)
					} else if v.Exists(hostdb.Hosts, m.Name) {
						want[m.Name] = true
					}
				}
			}
			down(key)
			var list []string
			for h := range want {
				list = append(list, h)
				parents[h] = append(parents[h], key)
			}
			slices.Sort(list)
			if got := v.Members(ns, key); !slices.Equal(got, list) {
				t.Fatalf("members of %s/%s: %q, want %q", ns, key, got, list)
			}
		}
		if count != v.Len(ns) {
			t.Fatalf("%s has %d keys, Len says %d", ns, count, v.Len(ns))
		}
		for h := range v.Keys(hostdb.Hosts) {
			slices.Sort(parents[h])
			if got := v.Parents(h, ns); !slices.Equal(got, parents[h]) {
				t.Fatalf("parents of %s in %s: %q, want %q", h, ns, got, parents[h])
			}
		}
	}
}

var (
	someHosts = []string{"h1", "h2", "h3"}
	someTags  = []string{"t1", "t2", "t3"}
	somePaths = [][]string{{"a"}, {"b"}, {"a", "x"}, {"a", "y"}, {"Network", "IP"}, {"Status"}, {"a", "x", "deep"}}
	someDocs  = []string{"", "1", "retired", "10.0.0.1", "{x: 1, y: 2}", "{x: {deep: 1}}", "{}", "[p, q]", "{a: {x: 1}, Network: {IP: 10.0.0.2}}", "{Network: {IP: 10.0.0.1}}"}
)

// randomWrite is one thing that a person could do.
func randomWrite(t *rapid.T) func(tx *hostdb.Tx) error {
	ns, keys := hostdb.Hosts, someHosts
	if rapid.Bool().Draw(t, "tag") {
		ns, keys = hostdb.Tags, someTags
		if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
			ns = "extra"
		}
	}
	key := rapid.SampledFrom(keys).Draw(t, "key")
	other := rapid.SampledFrom(keys).Draw(t, "other key")
	path := rapid.SampledFrom(somePaths).Draw(t, "path")
	doc, err := hostdb.ParseDocument([]byte(rapid.SampledFrom(someDocs).Draw(t, "doc")))
	if err != nil {
		t.Fatal(err)
	}
	member := rapid.SampledFrom(append(slices.Clone(someHosts), "@t1", "@t2", "@t3")).Draw(t, "member")
	list := rapid.SliceOfNDistinct(rapid.SampledFrom(append(slices.Clone(someHosts), "@t2", "@t3")), 0, 4, rapid.ID).Draw(t, "list")
	switch rapid.SampledFrom([]string{"put", "put", "path", "path", "path", "delete path", "rename path", "delete", "delete", "rename", "add", "add", "remove", "set", "rename member", "perms", "two", "namespace"}).Draw(t, "what") {
	case "put":
		return func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) }
	case "path":
		return func(tx *hostdb.Tx) error { return tx.PutPath(ns, key, path, doc) }
	case "delete path":
		return func(tx *hostdb.Tx) error { return tx.DeletePath(ns, key, path) }
	case "rename path":
		return func(tx *hostdb.Tx) error { return tx.RenamePath(ns, key, path, "z") }
	case "delete":
		return func(tx *hostdb.Tx) error { return tx.Delete(ns, key) }
	case "rename":
		return func(tx *hostdb.Tx) error { return tx.Rename(ns, key, other) }
	case "add":
		return func(tx *hostdb.Tx) error { return tx.AddMember(hostdb.Tags, rapidTag(key), member) }
	case "remove":
		return func(tx *hostdb.Tx) error { return tx.RemoveMember(hostdb.Tags, rapidTag(key), member) }
	case "set":
		var members []hostdb.Member
		for i, m := range list {
			members = append(members, hostdb.Member{Name: m, Text: strings.Repeat("# note\n", i%2)})
		}
		return func(tx *hostdb.Tx) error { return tx.SetMembers(hostdb.Tags, rapidTag(key), members) }
	case "rename member":
		return func(tx *hostdb.Tx) error {
			return tx.RenameMember(hostdb.Tags, rapidTag(key), member, someHosts[0])
		}
	case "perms":
		acl, err := hostdb.ParseACL([]byte("ops: {data: RW}"))
		if err != nil {
			t.Fatal(err)
		}
		return func(tx *hostdb.Tx) error { return tx.SetPerms(ns, key, acl) }
	case "namespace":
		return func(tx *hostdb.Tx) error { return tx.CreateNamespace("extra") }
	default:
		return func(tx *hostdb.Tx) error {
			if err := tx.Put(hostdb.Hosts, someHosts[0], doc); err != nil {
				return err
			}
			if err := tx.Put(hostdb.Tags, someTags[0], doc); err != nil {
				return err
			}
			return tx.AddMember(hostdb.Tags, someTags[0], someHosts[0])
		}
	}
}

func rapidTag(key string) string { return "t" + key[1:2] }

// Random operations on three replicas, delivered in any order, with duplicates, cuts, restarts and skewed clocks:
// in the end equal versions, equal digests, and equal answers.
func TestMergeConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boxes := []*box{openBox(t, "one"), openBox(t, "two"), openBox(t, "three")}
		pick := func(label string) *box { return rapid.SampledFrom(boxes).Draw(t, label) }
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				b := pick("box")
				write := randomWrite(t)
				before := b.store.View()
				c, err := b.update(t, write)
				if err == nil && !c.Changed() && before.Version() != b.store.View().Version() {
					t.Fatalf("a write that changed nothing made a version")
				}
			},
			"deliver": func(t *rapid.T) {
				a, b := pick("from"), pick("to")
				for origin := range a.store.View().Vector() {
					if rapid.Bool().Draw(t, "this origin") {
						deliver(t, a, b, origin, rapid.IntRange(0, 2).Draw(t, "again"), rapid.IntRange(1, 3).Draw(t, "n"))
					}
				}
			},
			"restart": func(t *rapid.T) {
				b := pick("box")
				before := picture(b.store.View()) + digests(b.store.View())
				b.restart(t)
				if after := picture(b.store.View()) + digests(b.store.View()); after != before {
					t.Fatalf("a restart changed\n%s\nto\n%s", before, after)
				}
			},
			"time": func(t *rapid.T) {
				b := pick("box")
				b.clock.now = b.clock.now.Add(time.Duration(rapid.IntRange(-200, 900).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				for _, b := range boxes {
					checkIndexes(t, b.store.View())
				}
			},
		})
		latest := boxes[0].clock.now
		for _, b := range boxes {
			if b.clock.now.After(latest) {
				latest = b.clock.now
			}
		}
		for _, b := range boxes {
			b.clock.now = latest.Add(time.Minute)
		}
		for _, a := range boxes {
			for _, b := range boxes {
				deliverAll(t, a, b)
			}
		}
		first := boxes[0].store.View()
		for _, b := range boxes[1:] {
			v := b.store.View()
			if v.Version().String() != first.Version().String() {
				t.Fatalf("versions differ after everything was delivered")
			}
			if digests(v) != digests(first) {
				t.Errorf("digests differ:\n%s%s", digests(first), digests(v))
			}
			if picture(v) != picture(first) {
				t.Fatalf("answers differ:\n%s\n%s", picture(first), picture(v))
			}
		}
	})
}
