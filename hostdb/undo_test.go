package hostdb_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

// undoing is a replica on which revisions are made and taken back.
type undoing struct {
	*testing.T
	b *box
}

func (u undoing) step(fns ...func(*hostdb.Tx) error) hostdb.Stamp {
	u.Helper()
	u.b.clock.now = u.b.clock.now.Add(time.Second)
	return write(u.T, u.b, fns...).Revision
}

func (u undoing) undo(id hostdb.Stamp, force bool) error {
	u.Helper()
	u.b.clock.now = u.b.clock.now.Add(time.Second)
	rev, err := u.b.store.Revision(id)
	if err != nil {
		u.Fatal(err)
	}
	before, after := at(u.T, u.b, id.Before()), at(u.T, u.b, id)
	_, err = u.b.store.Update(context.Background(), hostdb.Request{User: "test", Log: "undo"}, func(tx *hostdb.Tx) error {
		return tx.Undo(rev, before, after, force)
	})
	return err
}

func (u undoing) path(key, value string, p ...string) func(*hostdb.Tx) error {
	doc := parse(u.T, value)
	return func(tx *hostdb.Tx) error { return tx.PutPath("hosts", key, p, doc) }
}

func (u undoing) list(key, raw string) func(*hostdb.Tx) error {
	members, err := hostdb.ParseMembers(raw)
	if err != nil {
		u.Fatal(err)
	}
	return func(tx *hostdb.Tx) error { return tx.SetMembers("tags", key, members) }
}

func rename(ns, from, to string) func(*hostdb.Tx) error {
	return func(tx *hostdb.Tx) error { return tx.Rename(ns, from, to) }
}

func remove(ns, key string) func(*hostdb.Tx) error {
	return func(tx *hostdb.Tx) error { return tx.Delete(ns, key) }
}

// What others put where an old value stood is theirs: it is named, not taken away.
func TestUndoNamesWhatStandsInTheWay(t *testing.T) {
	for _, c := range []struct {
		name             string
		was              string
		bad, since       string // of the path Disk
		sincePath        []string
		places           []string // written over
		untouched, after string   // without and with force
	}{
		{"below an old value", "{Disk: 5}", "{a: 1}", "2", []string{"Disk", "b"},
			[]string{"hosts/web1/Disk/b"}, "{Disk: {a: 1, b: 2}}", "{Disk: 5}"},
		{"above an old value", "{Disk: {a: 1}}", "7", "9", []string{"Disk"},
			[]string{"hosts/web1/Disk"}, "{Disk: 9}", "{Disk: {a: 1}}"},
		{"in an empty mapping", "{Disk: {}}", "{a: 1}", "2", []string{"Disk", "b"}, nil, "", "{Disk: {b: 2}}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := undoing{t, openBox(t, "a")}
			u.step(put("hosts", "web1", parse(t, c.was)))
			bad := u.step(u.path("web1", c.bad, "Disk"))
			u.step(u.path("web1", c.since, c.sincePath...))
			err := u.undo(bad, false)
			var over *hostdb.WrittenOver
			if c.places != nil {
				if !errors.As(err, &over) || !slices.Equal(over.Places, c.places) {
					t.Errorf("undo: %v, want refused for %q", err, c.places)
				}
				if got := u.b.store.View().Data("hosts", "web1"); !got.Equal(parse(t, c.untouched)) {
					t.Errorf("a refused undo left %q", got.YAML())
				}
				err = u.undo(bad, true)
			}
			if got := u.b.store.View().Data("hosts", "web1"); err != nil || !got.Equal(parse(t, c.after)) {
				t.Errorf("undo: %v, left %q, want %s", err, got.YAML(), c.after)
			}
		})
	}
}

// A rename beside other changes, of the same key or of its old name, is taken back with them.
func TestUndoOfRenamesInLargerOperations(t *testing.T) {
	all := func(fns ...func(*hostdb.Tx) error) []func(*hostdb.Tx) error { return fns }
	for name, fns := range map[string]func(u undoing) []func(*hostdb.Tx) error{
		"renamed and changed": func(u undoing) []func(*hostdb.Tx) error {
			return all(rename("hosts", "web1", "www1"), u.path("www1", "64", "cpu"), u.path("www1", "x", "note"))
		},
		"renamed, and another made under the old name": func(u undoing) []func(*hostdb.Tx) error {
			return all(rename("hosts", "web1", "www1"), put("hosts", "web1", parse(u.T, "{cpu: 1}")))
		},
		"renamed over one that is deleted": func(u undoing) []func(*hostdb.Tx) error {
			return all(remove("hosts", "web2"), rename("hosts", "web1", "web2"))
		},
		"two change their names": func(u undoing) []func(*hostdb.Tx) error {
			return all(rename("hosts", "web1", "x"), rename("hosts", "web2", "web1"), rename("hosts", "x", "web2"))
		},
		"a tag, and a host that it has is deleted": func(u undoing) []func(*hostdb.Tx) error {
			return all(remove("hosts", "web2"), rename("tags", "web", "www"))
		},
		"a tag without members gets some": func(u undoing) []func(*hostdb.Tx) error {
			return all(rename("tags", "none", "some"), u.list("some", "web2"))
		},
		"a tag and its list": func(u undoing) []func(*hostdb.Tx) error {
			return all(rename("tags", "web", "www"), u.list("www", "web2\nweb3"))
		},
		"a host and the list that has it": func(u undoing) []func(*hostdb.Tx) error {
			return all(rename("hosts", "web1", "www1"), rename("tags", "web", "www"), u.list("www", "web2\nwww1\nweb3"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := undoing{t, openBox(t, "a")}
			u.step(put("hosts", "web1", parse(t, "{cpu: 2}")), put("hosts", "web2", parse(t, "{cpu: 4}")), put("hosts", "web3", parse(t, "{}")),
				put("tags", "web", parse(t, "{}")), put("tags", "all-web", parse(t, "{}")), put("tags", "none", parse(t, "{}")))
			u.step(u.list("web", "web1\nweb2"), u.list("all-web", "@web\nweb3"))
			want := contents(u.b.store.View())
			bad := u.step(fns(u)...)
			if err := u.undo(bad, false); err != nil {
				t.Fatal(err)
			}
			if got := contents(u.b.store.View()); got != want {
				t.Errorf("after the undo\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What was deleted together comes back together, whatever the order of names.
func TestUndoOfADeleteWithItsLists(t *testing.T) {
	u := undoing{t, openBox(t, "a")}
	u.step(func(tx *hostdb.Tx) error { return tx.CreateNamespace("apps") },
		put("hosts", "web1", parse(t, "{}")), put("apps", "a", parse(t, "{}")), put("apps", "b", parse(t, "{}")))
	members, err := hostdb.ParseMembers("# first\nweb1\n# then\n@b\n# end\n")
	if err != nil {
		t.Fatal(err)
	}
	u.step(func(tx *hostdb.Tx) error { return tx.SetMembers("apps", "a", members) })
	want := contents(u.b.store.View())
	bad := u.step(remove("apps", "a"), remove("apps", "b"), remove("hosts", "web1"))
	if err := u.undo(bad, false); err != nil {
		t.Fatal(err)
	}
	if got := contents(u.b.store.View()); got != want {
		t.Errorf("after the undo\n%s\nwant\n%s", got, want)
	}
}

// An access list that was set on a key since the key was made is what somebody wrote.
func TestUndoOfACreationSeesAccessLists(t *testing.T) {
	u := undoing{t, openBox(t, "a")}
	made := u.step(put("hosts", "web1", parse(t, "{}")))
	acl, err := hostdb.ParseACL([]byte("ops: {data: RW}"))
	if err != nil {
		t.Fatal(err)
	}
	u.step(func(tx *hostdb.Tx) error { return tx.SetPerms("hosts", "web1", acl) })
	if err := u.undo(made, false); !errors.Is(err, hostdb.ErrWrittenOver) {
		t.Errorf("undo: %v, want refused", err)
	}
	if err := u.undo(made, true); err != nil || u.b.store.View().Exists("hosts", "web1") {
		t.Errorf("forced undo: %v", err)
	}
}

// With force a rename goes back although its old name was taken, or its new one given up, since.
func TestForcedUndoOfARename(t *testing.T) {
	for name, since := range map[string]func(u undoing) func(*hostdb.Tx) error{
		"the old name was taken":    func(u undoing) func(*hostdb.Tx) error { return put("hosts", "web1", parse(u.T, "{cpu: 1}")) },
		"the new name was given up": func(undoing) func(*hostdb.Tx) error { return remove("hosts", "www1") },
	} {
		t.Run(name, func(t *testing.T) {
			u := undoing{t, openBox(t, "a")}
			u.step(put("hosts", "web1", parse(t, "{cpu: 2}")))
			want := contents(u.b.store.View())
			bad := u.step(rename("hosts", "web1", "www1"))
			u.step(since(u))
			if err := u.undo(bad, false); !errors.Is(err, hostdb.ErrWrittenOver) {
				t.Errorf("undo: %v, want refused", err)
			}
			if err := u.undo(bad, true); err != nil {
				t.Fatal(err)
			}
			if got := contents(u.b.store.View()); got != want {
				t.Errorf("after the forced undo\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// namesNobody reports whether a list names what does not exist, which writes that did not know of each other can cause: what is
// made under that name and deleted again leaves the list too.
func namesNobody(v hostdb.View) bool {
	for _, ns := range v.Namespaces() {
		for key := range v.Keys(ns) {
			for _, m := range v.DirectMembers(ns, key) {
				target, inherited := strings.CutPrefix(m.Name, "@")
				if inherited && !v.Exists(ns, target) || !inherited && m.Name != "" && !v.Exists(hostdb.Hosts, m.Name) {
					return true
				}
			}
		}
	}
	return false
}

// Writes, undos and restores on three replicas that hear of each other in any order: in the end they agree about the present
// and about every moment of the past, and an undo that is undone leaves what there was.
func TestTheTakenBackConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boxes := []*box{openBox(t, "one"), openBox(t, "two"), openBox(t, "three")}
		pick := func(label string) *box { return rapid.SampledFrom(boxes).Draw(t, label) }
		revision := func(t *rapid.T, b *box) (rev hostdb.Revision, ok bool) {
			list := revisionsOf(t, b)
			if len(list) == 0 {
				return hostdb.Revision{}, false
			}
			return rapid.SampledFrom(list).Draw(t, "revision"), true
		}
		try := func(t *rapid.T, b *box, fn func(tx *hostdb.Tx) error) (hostdb.Commit, bool) {
			c, err := b.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, fn)
			if err != nil && !refused(err) && !errors.Is(err, hostdb.ErrWrittenOver) {
				t.Fatalf("at %s: %v", b.name, err)
			}
			return c, err == nil && c.Changed()
		}
		undo := func(t *rapid.T, b *box, rev hostdb.Revision, force bool) (hostdb.Commit, bool) {
			before, after := at(t, b, rev.ID.Before()), at(t, b, rev.ID)
			return try(t, b, func(tx *hostdb.Tx) error { return tx.Undo(rev, before, after, force) })
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) { try(t, pick("box"), randomWrites(t)) },
			"undo": func(t *rapid.T) {
				b := pick("box")
				was, dangling := contents(b.store.View()), namesNobody(b.store.View())
				rev, ok := revision(t, b)
				if !ok {
					return // nothing is written yet
				}
				c, done := undo(t, b, rev, rapid.Bool().Draw(t, "force"))
				if !done || !rapid.Bool().Draw(t, "and undo that") {
					return
				}
				back, err := b.store.Revision(c.Revision)
				if err != nil {
					t.Fatal(err)
				}
				undo(t, b, back, false)
				if got := contents(b.store.View()); got != was && !dangling {
					t.Fatalf("undo of the undo %+v\n%s\nwant\n%s", back.Effects, got, was)
				}
			},
			"restore": func(t *rapid.T) {
				b := pick("box")
				rev, ok := revision(t, b)
				if !ok {
					return
				}
				then := at(t, b, rev.ID)
				what := rapid.SampledFrom([]hostdb.Resource{"", hostdb.Data, hostdb.Members, hostdb.Perms}).Draw(t, "what")
				key := rapid.SampledFrom(append(slices.Clone(someHosts), someTags...)).Draw(t, "key")
				ns := hostdb.Hosts
				if key[0] == 't' {
					ns = hostdb.Tags
				}
				try(t, b, func(tx *hostdb.Tx) error { return tx.Restore(then, ns, key, what) })
			},
			"time": func(t *rapid.T) {
				b := pick("box")
				b.clock.now = b.clock.now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			},
			"deliver": func(t *rapid.T) {
				a, b := pick("from"), pick("to")
				for origin := range a.store.View().Vector() {
					if rapid.Bool().Draw(t, "this origin") {
						deliver(t, a, b, origin, 0, rapid.IntRange(1, 3).Draw(t, "n"))
					}
				}
			},
			"restart": func(t *rapid.T) { pick("box").restart(t) },
			"": func(t *rapid.T) {
				for _, b := range boxes {
					checkIndexes(t, b.store.View())
				}
			},
		})
		last := slices.MaxFunc(boxes, func(a, b *box) int { return a.clock.now.Compare(b.clock.now) }).clock.now
		for _, b := range boxes {
			b.clock.now = last.Add(time.Minute)
		}
		for _, a := range boxes {
			for _, b := range boxes {
				deliverAll(t, a, b)
			}
		}
		cuts := []hostdb.Stamp{{}}
		for _, r := range revisionsOf(t, boxes[0]) {
			cuts = append(cuts, r.ID)
		}
		for _, b := range boxes[1:] {
			if v, first := b.store.View(), boxes[0].store.View(); digests(v) != digests(first) || picture(v) != picture(first) {
				t.Fatalf("answers differ:\n%s\n%s", picture(first), picture(v))
			}
		}
		for _, cut := range cuts {
			first := at(t, boxes[0], cut)
			for _, b := range boxes[1:] {
				if v := at(t, b, cut); digests(v) != digests(first) || picture(v) != picture(first) {
					t.Fatalf("as of %s\n%s\nand\n%s", cut, picture(first), picture(v))
				}
			}
		}
	})
}
