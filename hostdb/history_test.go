package hostdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
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

// contents is what people can read, without who wrote it and when.
func contents(v hostdb.View) string {
	var b strings.Builder
	for _, ns := range v.Namespaces() {
		for key := range v.Keys(ns) {
			item, _ := v.Get(ns, key)
			acl, _ := v.Perms(ns, key)
			fmt.Fprintf(&b, "%s/%s %q raw=%q perms=%q\n", ns, key, item.YAML(), v.RawMembers(ns, key), acl.YAML())
		}
	}
	return b.String()
}

// revisionsOf are all revisions of a box, oldest first.
func revisionsOf(t failer, b *box) []hostdb.Revision {
	t.Helper()
	var list []hostdb.Revision
	err := b.store.EachRevision(context.Background(), hostdb.Stamp{}, func(r hostdb.Revision) error {
		list = append(list, r)
		return nil
	})
	if err != nil {
		t.Fatalf("revisions of %s: %v", b.name, err)
	}
	return list
}

func at(t failer, b *box, cut hostdb.Stamp) hostdb.View {
	t.Helper()
	v, err := b.store.At(context.Background(), cut)
	if err != nil {
		t.Fatalf("as of %s: %v", cut, err)
	}
	return v
}

// upTo is a fresh replica that holds what b does with stamps up to cut.
func upTo(t failer, b *box, cut hostdb.Stamp) hostdb.View {
	t.Helper()
	fresh := openBox(t, "fresh")
	fresh.clock.now = b.clock.now.Add(time.Hour)
	for origin := range b.store.View().Vector() {
		ops, err := b.store.Operations(origin, 0, 1<<30)
		if err != nil {
			t.Fatalf("operations: %v", err)
		}
		n := 0
		for _, raw := range ops {
			if op, err := hostdb.ParseOperation(raw); err != nil || cut.Less(op.Stamp()) {
				break
			}
			n++
		}
		if _, err := fresh.store.Apply(context.Background(), ops[:n]); err != nil {
			t.Fatalf("apply: %v", err)
		}
	}
	return fresh.store.View()
}

// The state as of any revision is that of a replica that never heard of what came later, whatever states are at hand and
// whatever arrives late.
func TestPastIsTheFoldOfWhatWasKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boxes := []*box{openBox(t, "one"), openBox(t, "two")}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				_, _ = rapid.SampledFrom(boxes).Draw(t, "box").update(t, randomWrite(t))
			},
			"time": func(t *rapid.T) {
				b := rapid.SampledFrom(boxes).Draw(t, "box")
				b.clock.now = b.clock.now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
			},
			"deliver": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "from")
				for _, b := range boxes {
					b.clock.now = slices.MaxFunc(boxes, func(a, b *box) int { return a.clock.now.Compare(b.clock.now) }).clock.now
				}
				deliverAll(t, boxes[i], boxes[1-i])
			},
			"look": func(t *rapid.T) {
				b := boxes[0]
				list := revisionsOf(t, b)
				if len(list) == 0 {
					return
				}
				cut := rapid.SampledFrom(list).Draw(t, "revision").ID
				if rapid.Bool().Draw(t, "before it") {
					cut = cut.Before()
				}
				got, want := at(t, b, cut), upTo(t, b, cut)
				if picture(got)+digests(got) != picture(want)+digests(want) {
					t.Fatalf("as of %s\n%s\nwant\n%s", cut, picture(got), picture(want))
				}
				checkIndexes(t, got)
				for _, ns := range want.Namespaces() {
					if !got.Modified(ns).Equal(want.Modified(ns)) {
						t.Fatalf("%s was modified %s, want %s", ns, got.Modified(ns), want.Modified(ns))
					}
				}
			},
			"": func(t *rapid.T) {},
		})
		// Replay leads from any state to the present, one revision at a time.
		b := boxes[0]
		list := revisionsOf(t, b)
		if len(list) == 0 {
			return
		}
		from := rapid.IntRange(0, len(list)-1).Draw(t, "replay from")
		last, n := at(t, b, list[from].ID), from+1
		err := b.store.Replay(context.Background(), list[from].ID, func(r hostdb.Revision, v hostdb.View) error {
			if r.ID != list[n].ID {
				t.Fatalf("replay shows %s, want %s", r.ID, list[n].ID)
			}
			last, n = v, n+1
			return nil
		})
		if err != nil || n != len(list) || picture(last) != picture(b.store.View()) {
			t.Fatalf("replay of %d of %d revisions (%v) leads to\n%s\nwant\n%s", n, len(list), err, picture(last), picture(b.store.View()))
		}
	})
}

// Taking back the newest revision gives what was before it; taking back an older one leaves what others wrote elsewhere,
// or says what they wrote over.
func TestUndo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := openBox(t, "one")
		for range rapid.IntRange(1, 12).Draw(t, "writes") {
			b.clock.now = b.clock.now.Add(10 * time.Millisecond)
			_, _ = b.update(t, randomWrites(t))
		}
		list := revisionsOf(t, b)
		if len(list) == 0 {
			return
		}
		rev := list[len(list)-1]
		before, after := at(t, b, rev.ID.Before()), at(t, b, rev.ID)
		_, err := b.update(t, func(tx *hostdb.Tx) error { return tx.Undo(rev, before, after, false) })
		if err != nil {
			t.Fatalf("take back %s, the newest revision: %v", rev.ID, err)
		}
		if got := b.store.View(); contents(got) != contents(before) && !onlyNamespace(rev) {
			t.Fatalf("after taking back %+v\n%s\nwant\n%s", rev.Effects, contents(got), contents(before))
		}
		// An older one: either refused with places, or done and then equal to what it found wherever it had a say.
		rev = rapid.SampledFrom(list).Draw(t, "older")
		before, after = at(t, b, rev.ID.Before()), at(t, b, rev.ID)
		_, err = b.store.Update(context.Background(), hostdb.Request{User: "test", Log: "undo"}, func(tx *hostdb.Tx) error {
			return tx.Undo(rev, before, after, false)
		})
		var over *hostdb.WrittenOver
		if err != nil && !(errors.As(err, &over) && len(over.Places) > 0 && errors.Is(err, hostdb.ErrWrittenOver)) && !refused(err) {
			t.Fatalf("take back %s: %v", rev.ID, err)
		}
		checkIndexes(t, b.store.View())
	})
}

// randomWrites are one to three things in one operation; those that are refused are left out.
func randomWrites(t *rapid.T) func(tx *hostdb.Tx) error {
	fns := rapid.SliceOfN(rapid.Custom(randomWrite), 1, 3).Draw(t, "writes at once")
	return func(tx *hostdb.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil && !refused(err) {
				return err
			}
		}
		return nil
	}
}

// onlyNamespace reports whether a revision made a namespace and nothing else: that is not taken back.
func onlyNamespace(r hostdb.Revision) bool {
	return !slices.ContainsFunc(r.Effects, func(x hostdb.Effect) bool { return x.Key != "" })
}

func TestUndoLeavesWhatOthersWrote(t *testing.T) {
	b := openBox(t, "a")
	step := func(fns ...func(*hostdb.Tx) error) hostdb.Stamp {
		t.Helper()
		b.clock.now = b.clock.now.Add(time.Second)
		return write(t, b, fns...).Revision
	}
	path := func(key, value string, p ...string) func(*hostdb.Tx) error {
		return func(tx *hostdb.Tx) error { return tx.PutPath("hosts", key, p, parse(t, value)) }
	}
	step(put("hosts", "web1", parse(t, "{cpu: 2, disk: 5}")), put("hosts", "web2", parse(t, "{cpu: 2}")), put("tags", "web", parse(t, "{TTL: 30}")))
	bad := step(path("web1", "64", "cpu"), path("web2", "64", "cpu"), path("web1", "x", "note"),
		func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web1") })
	step(path("web1", "9", "disk"), func(tx *hostdb.Tx) error { return tx.AddMember("tags", "web", "web2") })
	undo := func(id hostdb.Stamp, force bool) error {
		rev, err := b.store.Revision(id)
		if err != nil {
			t.Fatal(err)
		}
		before, after := at(t, b, id.Before()), at(t, b, id)
		_, err = b.store.Update(context.Background(), hostdb.Request{User: "test", Log: "undo"}, func(tx *hostdb.Tx) error {
			return tx.Undo(rev, before, after, force)
		})
		return err
	}
	if err := undo(bad, false); err != nil {
		t.Fatal(err)
	}
	v := b.store.View()
	if got := v.Data("hosts", "web1"); !got.Equal(parse(t, "{cpu: 2, disk: 9}")) || v.RawMembers("tags", "web") != "web2" {
		t.Errorf("after the undo web1 is %q and the members are %q", got.YAML(), v.RawMembers("tags", "web"))
	}
	// What was written over since is named, and nothing is changed.
	bad = step(path("web1", "64", "cpu"), path("web2", "64", "cpu"))
	step(path("web2", "32", "cpu"))
	var over *hostdb.WrittenOver
	if err := undo(bad, false); !errors.As(err, &over) || !slices.Equal(over.Places, []string{"hosts/web2/cpu"}) {
		t.Errorf("undo of what was written over: %v", err)
	}
	if got := b.store.View().Data("hosts", "web1").Text("cpu"); got != "64" {
		t.Errorf("a refused undo changed cpu to %s", got)
	}
	if err := undo(bad, true); err != nil || b.store.View().Data("hosts", "web2").Text("cpu") != "2" {
		t.Errorf("forced undo: %v, cpu is %s", err, b.store.View().Data("hosts", "web2").Text("cpu"))
	}
	// A rename goes back with every list; a delete comes back with members and lists.
	renamed := step(func(tx *hostdb.Tx) error { return tx.Rename("hosts", "web2", "www2") })
	want := "web2"
	if err := undo(renamed, false); err != nil || b.store.View().RawMembers("tags", "web") != want {
		t.Errorf("undo of a rename: %v, members %q", err, b.store.View().RawMembers("tags", "web"))
	}
	deleted := step(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web2") })
	if err := undo(deleted, false); err != nil || b.store.View().RawMembers("tags", "web") != want || !b.store.View().Exists("hosts", "web2") {
		t.Errorf("undo of a delete: %v, members %q", err, b.store.View().RawMembers("tags", "web"))
	}
}

func TestHistoryFollowsRenames(t *testing.T) {
	b := openBox(t, "a")
	var ids []hostdb.Stamp
	step := func(fn func(*hostdb.Tx) error) {
		t.Helper()
		b.clock.now = b.clock.now.Add(time.Second)
		ids = append(ids, write(t, b, fn).Revision)
	}
	step(put("hosts", "old", parse(t, "{a: 1}")))
	step(put("hosts", "old", parse(t, "{a: 2}")))
	step(func(tx *hostdb.Tx) error { return tx.Rename("hosts", "old", "new") })
	step(put("hosts", "new", parse(t, "{a: 3}")))
	step(put("hosts", "old", parse(t, "{another: 1}")))
	step(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "new") })
	revisions := func(sc hostdb.Scope, limit int, before hostdb.Stamp) (list []hostdb.Stamp, more bool) {
		t.Helper()
		revs, more, err := b.store.Revisions(context.Background(), hostdb.RevisionQuery{Scope: sc, Limit: limit, Before: before})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range revs {
			list = append(list, r.ID)
		}
		return list, more
	}
	for _, c := range []struct {
		scope hostdb.Scope
		want  []int
	}{
		{hostdb.Scope{NS: "hosts", Key: "new"}, []int{5, 3, 2, 1, 0}},
		{hostdb.Scope{NS: "hosts", Key: "old"}, []int{4, 2, 1, 0}},
		{hostdb.Scope{NS: "hosts"}, []int{5, 4, 3, 2, 1, 0}},
		{hostdb.Scope{}, []int{5, 4, 3, 2, 1, 0}},
		{hostdb.Scope{NS: "tags"}, nil},
		{hostdb.Scope{NS: "hosts", Key: "new", What: hostdb.Members}, []int{5, 2}},
		{hostdb.Scope{NS: "hosts", Key: "new", What: hostdb.Perms}, []int{5, 2}},
	} {
		var want []hostdb.Stamp
		for _, i := range c.want {
			want = append(want, ids[i])
		}
		got, more := revisions(c.scope, 0, hostdb.Stamp{})
		if !slices.Equal(got, want) || more {
			t.Errorf("revisions of %+v: %v, want %v", c.scope, got, want)
		}
	}
	got, more := revisions(hostdb.Scope{NS: "hosts", Key: "new"}, 2, ids[3])
	if !slices.Equal(got, []hostdb.Stamp{ids[2], ids[1]}) || !more {
		t.Errorf("two revisions before the fourth: %v, more %v", got, more)
	}
	for i, want := range []string{"old", "old", "new", "new", "new", ""} {
		then := at(t, b, ids[i])
		name, ok, err := b.store.Formerly(context.Background(), then, ids[i], "hosts", "new")
		if err != nil || name != want || ok != (want != "") {
			t.Errorf("as of revision %d, new was %q, %v, %v; want %q", i, name, ok, err, want)
		}
	}
}

func TestCut(t *testing.T) {
	b := openBox(t, "a")
	b.clock.now = time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
	first := write(t, b, put("hosts", "h", parse(t, "1"))).Revision
	b.clock.now = b.clock.now.Add(time.Hour)
	second := write(t, b, put("hosts", "h", parse(t, "2"))).Revision
	b.clock.now = b.clock.now.Add(time.Hour)
	for text, want := range map[string]string{
		first.String(): "1\n", second.String(): "2\n",
		"2026-03-01 12:00:05": "1\n", "2026-03-01 13:00:05 +0100": "1\n", "2026-03-01T13:00:04Z": "1\n", "2026-03-01 12:00": "1\n",
		"2026-03-01T13:00:05Z": "2\n", "2026-03-01": "2\n", "90m": "1\n", "10s": "2\n", "3h": "null\n", "2026-02-28": "null\n",
	} {
		cut, err := b.store.Cut(context.Background(), text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		item, _ := at(t, b, cut).Get("hosts", "h")
		if got := item.YAML(); got != want {
			t.Errorf("as of %s: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]error{
		"yesterday": hostdb.ErrInvalid, "": hostdb.ErrInvalid, "-3h": hostdb.ErrInvalid,
		"0123456789abcdef.0123456789abcdef": hostdb.ErrNotFound,
	} {
		if _, err := b.store.Cut(context.Background(), text); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	// A history that was brought from elsewhere answers for its own times.
	c := openBox(t, "c")
	for i, year := range []int{2012, 2013} {
		_, err := c.store.Update(context.Background(), hostdb.Request{User: "alice", Log: "import",
			Source: &hostdb.Source{Seconds: time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC).Unix(), Zone: 330, Email: "alice@example.com", Ref: "abc"}},
			put("hosts", "h", parse(t, fmt.Sprint(i))))
		if err != nil {
			t.Fatal(err)
		}
	}
	cut, err := c.store.Cut(context.Background(), "2012-12-31")
	if item, _ := at(t, c, cut).Get("hosts", "h"); err != nil || item.YAML() != "0\n" {
		t.Errorf("as of 2012 in an imported history: %q, %v", item.YAML(), err)
	}
	rev := revisionsOf(t, c)[1]
	if rev.At.Format("2006-01-02 15:04 -0700") != "2013-06-01 05:30 +0530" || rev.Source.Ref != "abc" {
		t.Errorf("the revision is of %s, %+v", rev.At, rev.Source)
	}
}

func TestBlame(t *testing.T) {
	b := openBox(t, "a")
	as := func(user string, fns ...func(*hostdb.Tx) error) {
		t.Helper()
		b.clock.now = b.clock.now.Add(time.Second)
		_, err := b.store.Update(context.Background(), hostdb.Request{User: user, Log: "x"}, func(tx *hostdb.Tx) error {
			for _, fn := range fns {
				if err := fn(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	members := func(text string) func(*hostdb.Tx) error {
		list, err := hostdb.ParseMembers(text)
		if err != nil {
			t.Fatal(err)
		}
		return func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "web", list) }
	}
	as("alice", put("hosts", "w1", parse(t, "")), put("hosts", "w2", parse(t, "")),
		put("tags", "web", parse(t, "{DNS: {Zone: a.example.com, TTL: 30}, note: \"a\\n\\nb\\n\", list: [1, 2]}")), members("# first\nw1\n"))
	as("bob", func(tx *hostdb.Tx) error { return tx.PutPath("tags", "web", []string{"DNS", "TTL"}, parse(t, "60")) }, members("# first\nw1\n# later\nw2\n# end\n"),
		func(tx *hostdb.Tx) error {
			acl, err := hostdb.ParseACL([]byte("ops: {data: RW}"))
			if err != nil {
				return err
			}
			return tx.SetPerms("tags", "web", acl)
		})
	text := func(scope hostdb.Scope) string {
		t.Helper()
		lines, err := b.store.Blame(context.Background(), b.store.View(), scope)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for _, l := range lines {
			fmt.Fprintf(&out, "%s|%s\n", l.User, l.Text)
		}
		return out.String()
	}
	for _, c := range []struct {
		scope hostdb.Scope
		want  string
	}{
		{hostdb.Scope{NS: "tags", Key: "web"}, "alice|DNS:\nbob|  TTL: 60\nalice|  Zone: a.example.com\nalice|list:\nalice|  - 1\nalice|  - 2\nalice|note: |\nalice|  a\nalice|\nalice|  b\n"},
		{hostdb.Scope{NS: "tags", Key: "web", Path: []string{"DNS"}}, "bob|TTL: 60\nalice|Zone: a.example.com\n"},
		{hostdb.Scope{NS: "tags", Key: "web", Path: []string{"DNS", "TTL"}}, "bob|60\n"},
		{hostdb.Scope{NS: "tags", Key: "web", What: hostdb.Members}, "alice|# first\nalice|w1\nbob|# later\nbob|w2\nbob|# end\n"},
		{hostdb.Scope{NS: "tags", Key: "web", What: hostdb.Perms}, "bob|ops:\nbob|  data: RW\n"},
		{hostdb.Scope{NS: "hosts", Key: "w1"}, "alice|null\n"},
	} {
		if got := text(c.scope); got != c.want {
			t.Errorf("blame of %+v:\n%swant\n%s", c.scope, got, c.want)
		}
	}
	if _, err := b.store.Blame(context.Background(), b.store.View(), hostdb.Scope{NS: "tags", Key: "none"}); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("blame of what is not there: %v", err)
	}
}

// The lines of a blame are the lines of the text, whatever it is.
func TestBlameShowsTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := openBox(t, "a")
		for range 8 {
			_, _ = b.update(t, randomWrite(t))
		}
		v := b.store.View()
		for _, ns := range v.Namespaces() {
			for key := range v.Keys(ns) {
				item, _ := v.Get(ns, key)
				if item.Revision().IsZero() {
					continue // tags/all before anybody wrote it
				}
				for what, want := range map[hostdb.Resource]string{hostdb.Data: item.YAML(), hostdb.Members: v.RawMembers(ns, key)} {
					lines, err := b.store.Blame(context.Background(), v, hostdb.Scope{NS: ns, Key: key, What: what})
					if err != nil {
						t.Fatal(err)
					}
					var got []string
					for _, l := range lines {
						if l.User != "test" || l.Revision.IsZero() {
							t.Fatalf("a line of nobody: %+v", l)
						}
						got = append(got, l.Text)
					}
					if strings.Join(got, "\n") != strings.TrimSuffix(want, "\n") {
						t.Fatalf("blame of %s of %s/%s shows\n%q\nwant\n%q", what, ns, key, got, want)
					}
				}
			}
		}
	})
}

func TestSidesOfConflicts(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "web1", parse(t, "{cpu: 2}")), put("hosts", "web2", parse(t, "1")), put("tags", "t", parse(t, "")))
	exchange(t, a, b)
	by := func(x *box, user string, fn func(*hostdb.Tx) error) {
		t.Helper()
		if _, err := x.store.Update(context.Background(), hostdb.Request{User: user, Log: "x"}, fn); err != nil {
			t.Fatal(err)
		}
	}
	by(a, "alice", func(tx *hostdb.Tx) error {
		if err := tx.PutPath("hosts", "web1", []string{"cpu"}, parse(t, "4")); err != nil {
			return err
		}
		if err := tx.AddMember("tags", "t", "web1"); err != nil {
			return err
		}
		return tx.PutPath("hosts", "web2", nil, parse(t, "{x: 7}"))
	})
	b.clock.now = b.clock.now.Add(100 * time.Millisecond)
	by(b, "bob", func(tx *hostdb.Tx) error {
		if err := tx.PutPath("hosts", "web1", []string{"cpu"}, parse(t, "[8, 9]")); err != nil {
			return err
		}
		if err := tx.AddMember("tags", "t", "web1"); err != nil {
			return err
		}
		return tx.Delete("hosts", "web2")
	})
	exchange(t, a, b)
	for _, x := range []*box{a, b} {
		var got []string
		for c := range x.store.View().AllConflicts() {
			w, l, err := x.store.Sides(c)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s/%s %s %s: %s %q %v over %s %q %v", c.NS, c.Key, c.What, c.At,
				w.Revision.User, w.Value, w.Gone, l.Revision.User, l.Value, l.Gone))
		}
		want := []string{
			`hosts/web1 data cpu: bob "- 8\n- 9\n" false over alice "4\n" false`,
			`hosts/web2  : bob "" true over alice "x: 7\n" false`,
			`tags/t members web1: bob "web1" false over alice "web1" false`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("conflicts at %s:\n%s\nwant\n%s", x.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Whoever follows a replica from a cursor sees each revision that it did not hold, once, and at any replica.
func TestFollowing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boxes := []*box{openBox(t, "one"), openBox(t, "two")}
		var cursor hostdb.Cursor
		seen := map[hostdb.Stamp]int{}
		follow := func(b *box, max int) {
			v := b.store.View()
			list, next, err := b.store.Since(context.Background(), cursor, v, max)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) > max {
				t.Fatalf("%d revisions, at most %d were asked for", len(list), max)
			}
			for i, r := range list {
				seen[r.ID]++
				if i > 0 && !list[i-1].ID.Less(r.ID) {
					t.Fatalf("%s comes after %s", r.ID, list[i-1].ID)
				}
			}
			if cursor, err = hostdb.ParseCursor(next.String()); err != nil || cursor.String() != next.String() {
				t.Fatalf("cursor %s is read as %s, %v", next, cursor, err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				b := rapid.SampledFrom(boxes).Draw(t, "box")
				b.clock.now = b.clock.now.Add(time.Millisecond)
				_, _ = b.update(t, randomWrite(t))
			},
			"restart": func(t *rapid.T) { rapid.SampledFrom(boxes).Draw(t, "box").restart(t) },
			"deliver": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "from")
				boxes[1-i].clock.now = boxes[i].clock.now
				deliverAll(t, boxes[i], boxes[1-i])
			},
			"follow": func(t *rapid.T) {
				b := rapid.SampledFrom(boxes).Draw(t, "box")
				if b.store.View().Covers(cursor) {
					follow(b, rapid.IntRange(1, 5).Draw(t, "max"))
				}
			},
		})
		deliverAll(t, boxes[0], boxes[1])
		deliverAll(t, boxes[1], boxes[0])
		b := rapid.SampledFrom(boxes).Draw(t, "last")
		for cursor.String() != b.store.View().Cursor().String() {
			follow(b, 3)
		}
		for _, r := range revisionsOf(t, b) {
			if seen[r.ID] != 1 {
				t.Fatalf("revision %s was seen %d times", r.ID, seen[r.ID])
			}
			delete(seen, r.ID)
		}
		if len(seen) > 0 {
			t.Fatalf("revisions that are not there were seen: %v", seen)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add("AQ")
	f.Add("")
	f.Add("AQAAAAAAAAABAQ")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := hostdb.ParseCursor(text); err == nil {
			again, err := hostdb.ParseCursor(c.String())
			if err != nil || again.String() != c.String() {
				t.Errorf("%q is read as %s and then %s, %v", text, c, again, err)
			}
		}
	})
}

func TestDryRunWritesNothing(t *testing.T) {
	b := openBox(t, "a")
	write(t, b, put("hosts", "h", parse(t, "{a: 1}")))
	before := picture(b.store.View())
	commits := b.storage.Commits()
	c, err := b.store.Update(context.Background(), hostdb.Request{User: "u", Log: "l", DryRun: true}, put("hosts", "h", parse(t, "{a: 2}")))
	if err != nil || c.Changed() || len(c.Effects) != 1 || c.Effects[0].Kind != hostdb.SetLeaf {
		t.Errorf("dry run: %+v, %v", c, err)
	}
	if picture(b.store.View()) != before || b.storage.Commits() != commits {
		t.Error("a dry run wrote something")
	}
	// The next write does not know of it.
	write(t, b, put("hosts", "h", parse(t, "{a: 3}")))
	if n := len(revisionsOf(t, b)); n != 2 {
		t.Errorf("%d revisions, want 2", n)
	}
}

func TestReadOnly(t *testing.T) {
	a, b := openBox(t, "a"), openBox(t, "b")
	write(t, a, put("hosts", "h", parse(t, "1")))
	set := func(x *box, on bool, why string) {
		t.Helper()
		_, err := x.store.Update(context.Background(), hostdb.Request{User: "root", Log: why, EvenReadOnly: true},
			func(tx *hostdb.Tx) error { return tx.SetReadOnly(on, why) })
		if err != nil {
			t.Fatal(err)
		}
	}
	set(a, true, "moving the datacenter")
	exchange(t, a, b)
	for _, x := range []*box{a, b} {
		if on, why := x.store.View().ReadOnly(); !on || why != "moving the datacenter" {
			t.Errorf("%s: read-only %v, %q", x.name, on, why)
		}
		_, err := x.store.Update(context.Background(), hostdb.Request{}, put("hosts", "h", parse(t, "2")))
		if !errors.Is(err, hostdb.ErrReadOnly) || !strings.Contains(err.Error(), "moving the datacenter") {
			t.Errorf("%s: a write in read-only mode: %v", x.name, err)
		}
	}
	b.clock.now = b.clock.now.Add(time.Second)
	set(b, false, "")
	exchange(t, a, b)
	write(t, a, put("hosts", "h", parse(t, "2")))
	if revs, _, err := a.store.Revisions(context.Background(), hostdb.RevisionQuery{}); err != nil || len(revs) != 2 {
		t.Errorf("people are shown %d revisions, %v; want the two writes of the host", len(revs), err)
	}
}

// A replica of the first format gets its index by stamps when it is opened, also after a crash half-way.
func TestUpgradeFromFormatOne(t *testing.T) {
	b := openBox(t, "a")
	for i := range 20 {
		b.clock.now = b.clock.now.Add(time.Second)
		write(t, b, put("hosts", fmt.Sprint("h", i), parse(t, "1")))
	}
	want := revisionsOf(t, b)
	old := b.storage.Snapshot()
	var drop []hostdb.Put
	if err := old.Scan([]byte{'t'}, nil, func(key, _ []byte) error {
		drop = append(drop, hostdb.Put{Key: bytes.Clone(key)})
		return nil
	}); err != nil || len(drop) != 20 {
		t.Fatalf("%d rows by stamp, %v", len(drop), err)
	}
	if err := old.Commit(append(drop, hostdb.Put{Key: []byte("mformat"), Value: binary.BigEndian.AppendUint64(nil, 1)})); err != nil {
		t.Fatal(err)
	}
	old.SetMaxBatch(1000, 8)
	var crashes []*hostdbtest.Memory
	old.SetHooks(hostdbtest.Hooks{After: func([]hostdb.Put) error { crashes = append(crashes, old.Snapshot()); return nil }})
	b.storage = old
	b.open(t)
	for i, m := range append(crashes, old.Snapshot()) {
		re := &box{storage: m, clock: b.clock, name: "a"}
		re.open(t)
		if got := revisionsOf(t, re); len(got) != len(want) || got[7].ID != want[7].ID {
			t.Errorf("after crash %d: %d revisions, want %d", i, len(got), len(want))
		}
	}
	if len(crashes) < 3 {
		t.Errorf("the upgrade made %d commits, want several", len(crashes))
	}
}
