package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// TestRevisionChanges: what a revision did is told as people think of it.
func TestRevisionChanges(t *testing.T) {
	p := openPast(t, "a")
	for _, c := range []struct {
		name   string
		write  []func(*hostdb.Tx) error
		want   []string
		listed []string
	}{
		{"creation",
			[]func(*hostdb.Tx) error{put("hosts/web1", "{CPU: 2, Network: {IP: 10.1.0.1}}"), put("hosts/web2", "{}"), put("tags/web", "{}"), members("tags/web", "# first\nweb1\nweb2")},
			[]string{"create hosts/web1 +CPU: 2|Network:|  IP: 10.1.0.1", "create hosts/web2 +{}", "create tags/web +{}", "set tags/web/members/web1 +# first|web1", "set tags/web/members/web2 +web2"},
			[]string{"create hosts/web1", "create hosts/web2", "create tags/web", "set tags/web/members/web1", "set tags/web/members/web2"}},
		{"values",
			[]func(*hostdb.Tx) error{put("hosts/web1", "{Disk: 10, Network: {IP: 10.1.0.9}}")},
			[]string{"remove hosts/web1/CPU -2", "set hosts/web1/Disk +10", "set hosts/web1/Network/IP -10.1.0.1 +10.1.0.9"},
			[]string{"remove hosts/web1/CPU", "set hosts/web1/Disk", "set hosts/web1/Network/IP"}},
		{"a list",
			[]func(*hostdb.Tx) error{put("hosts/web1/Disks", "[a, b]")},
			[]string{"set hosts/web1/Disks +- a|- b"},
			[]string{"set hosts/web1/Disks"}},
		{"rename with a change",
			[]func(*hostdb.Tx) error{rename("hosts/web1", "web9"), put("hosts/web9/Disk", "20")},
			[]string{"rename hosts/web9 from hosts/web1", "set hosts/web9/Disk -10 +20", "remove tags/web/members/web1 -# first|web1", "set tags/web/members/web9 +# first|web9"},
			[]string{"rename hosts/web9 from hosts/web1", "remove tags/web/members/web1", "set tags/web/members/web9"}},
		{"access lists",
			[]func(*hostdb.Tx) error{perms("tags/.default", "{ops: {data: RW}}"), perms("tags/web", "{bob: {members: RW}}")},
			[]string{"set tags/.default/perms +ops:|  data: RW", "set tags/web/perms +bob:|  members: RW"},
			[]string{"set tags/.default/perms", "set tags/web/perms"}},
		{"rename of a tag takes all along",
			[]func(*hostdb.Tx) error{rename("tags/web", "www")},
			[]string{"rename tags/www from tags/web"},
			[]string{"rename tags/www from tags/web"}},
		{"deletion",
			[]func(*hostdb.Tx) error{remove("tags/www"), remove("hosts/web2")},
			[]string{"delete hosts/web2 -{}", "delete tags/www -{}", "remove tags/www/members -# first|web9|web2", "remove tags/www/perms -bob:|  members: RW"},
			[]string{"delete hosts/web2", "delete tags/www"}},
		{"a namespace",
			[]func(*hostdb.Tx) error{func(tx *hostdb.Tx) error { return tx.CreateNamespace("vips") }},
			[]string{"create vips"}, []string{"create vips"}},
	} {
		rev := p.write("alice", c.name, c.write...)
		got := must[api.Revision](t)(p.Revision(t.Context(), rev, 0))
		if got.ID != rev || got.User != "alice" || got.Log != c.name || got.Node != "a" || got.Omitted != 0 {
			t.Errorf("%s: %+v", c.name, got)
		}
		if diff := cmp.Diff(c.want, lines(got.Changes)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		list := must[api.RevisionList](t)(p.Revisions(t.Context(), "", api.RevisionQuery{Limit: 1}))
		if len(list.Revisions) != 1 || list.Revisions[0].ID != rev {
			t.Fatalf("%s: the newest is %+v", c.name, list)
		}
		if diff := cmp.Diff(c.listed, lines(list.Revisions[0].Changes)); diff != "" {
			t.Errorf("%s, in a list (-want +got):\n%s", c.name, diff)
		}
	}
	first := must[api.RevisionList](t)(p.Revisions(t.Context(), "", api.RevisionQuery{Limit: 100})).Revisions
	cut := must[api.Revision](t)(p.Revision(t.Context(), first[len(first)-1].ID, 2))
	if len(cut.Changes) != 2 || cut.Omitted != 3 {
		t.Errorf("of 5 changes 2 were asked for: %d, and %d omitted", len(cut.Changes), cut.Omitted)
	}
}

func TestRevisionLists(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	revs := []string{
		p.write("alice", "0", put("hosts/web1", "{CPU: 2}")),
		p.write("bob", "1", put("hosts/web2", "{CPU: 2}"), put("hosts/web3", "{}")),
		p.write("root(alice)", "2", put("hosts/web1/CPU", "4")),
		p.write("bob", "3", put("tags/web", "{}"), members("tags/web", "web1")),
		p.write("alice", "4", rename("hosts/web1", "www1")),
		p.write("bob", "5", put("hosts/www1/Disk", "4")),
	}
	times := map[string]time.Time{}
	for _, r := range must[api.RevisionList](t)(p.Revisions(ctx, "", api.RevisionQuery{})).Revisions {
		times[r.Log] = r.Time
	}
	// The switch is a write to System: nobody sees it.
	if _, err := p.SetReadOnly(ctx, true, "tests"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, id string
		q        api.RevisionQuery
		want     string // the logs
		more     bool
	}{
		{"all", "", api.RevisionQuery{}, "543210", false},
		{"the newest", "", api.RevisionQuery{Limit: 2}, "54", true},
		{"as many as there are", "", api.RevisionQuery{Limit: 6}, "543210", false},
		{"older ones", "", api.RevisionQuery{Before: revs[2], Limit: 5}, "10", false},
		{"a namespace", "/tags/", api.RevisionQuery{}, "43", false},
		{"a key under its former name, too", "hosts/www1", api.RevisionQuery{}, "5420", false},
		{"a value", "hosts/www1/CPU", api.RevisionQuery{}, "420", false},
		{"members", "tags/web/members", api.RevisionQuery{}, "43", false},
		{"one member", "tags/web/members/www1", api.RevisionQuery{}, "4", false},
		{"perms", "tags/web/perms", api.RevisionQuery{}, "", false},
		{"a user, also as root", "", api.RevisionQuery{User: "alice"}, "420", false},
		{"a user's newest", "", api.RevisionQuery{User: "bob", Limit: 2}, "53", true},
		{"nobody", "", api.RevisionQuery{User: "carol"}, "", false},
		{"since", "", api.RevisionQuery{Since: times["4"].Format(time.RFC3339Nano)}, "54", false},
		{"until", "", api.RevisionQuery{Until: times["1"].Format("2006-01-02 15:04:05")}, "10", false},
		{"a day", "", api.RevisionQuery{Since: "2026-03-01", Until: "2026-03-01"}, "543210", false},
		{"the day before", "", api.RevisionQuery{Until: "2026-02-28"}, "", false},
		{"a time and a revision", "", api.RevisionQuery{Since: revs[1], Until: revs[3]}, "321", false},
		{"ago", "", api.RevisionQuery{Since: "1h"}, "543210", false},
	} {
		list, err := p.Revisions(ctx, c.id, c.q)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := ""
		for _, r := range list.Revisions {
			got += r.Log
		}
		if got != c.want || list.More != c.more || (list.Next != "") != c.more {
			t.Errorf("%s: %q, more %v, next %q; want %q, %v", c.name, got, list.More, list.Next, c.want, c.more)
		}
	}

	// Page by page it is the same.
	got := ""
	for q := (api.RevisionQuery{Limit: 1, User: "bob"}); ; {
		list := must[api.RevisionList](t)(p.Revisions(ctx, "", q))
		for _, r := range list.Revisions {
			got += r.Log
		}
		if !list.More {
			break
		}
		q.Before = list.Next
	}
	if got != "531" {
		t.Errorf("bob's, one by one: %q", got)
	}
	// What it did elsewhere is counted.
	r := must[api.RevisionList](t)(p.Revisions(ctx, "hosts/web2", api.RevisionQuery{})).Revisions[0]
	if want := []string{"create hosts/web2"}; !slices.Equal(lines(r.Changes), want) || r.Omitted != 1 {
		t.Errorf("of web2: %v, %d omitted", lines(r.Changes), r.Omitted)
	}
}

func TestHistoryRefuses(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	rev := p.write("alice", "x", put("hosts/web1", "{CPU: 2}"))
	state, err := p.SetReadOnly(ctx, true, "tests")
	if err != nil || !state.On {
		t.Fatal(state, err)
	}
	if _, err := p.SetReadOnly(ctx, false, ""); err != nil {
		t.Fatal(err)
	}
	var hidden string // the revision of the switch
	err = p.store.EachRevision(ctx, hostdb.Stamp{}, func(r hostdb.Revision) error {
		if r.ID.String() != rev {
			hidden = r.ID.String()
		}
		return nil
	})
	if err != nil || hidden == "" {
		t.Fatal("the switch left no revision", err)
	}
	const unknown = "0000000000000001.0000000000000001"
	get := func(path string) func() error {
		path, params, _ := strings.Cut(path, "?")
		q, err := url.ParseQuery(params)
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			var err error
			switch id := q.Get("id"); path {
			case "revisions":
				_, err = p.Revisions(ctx, id, api.RevisionQuery{Since: q.Get("since")})
			case "diff":
				_, err = p.Diff(ctx, id, api.DiffQuery{From: q.Get("from")})
			case "blame":
				_, err = p.Blame(ctx, id, "")
			case "conflicts":
				_, err = p.Conflicts(ctx, q.Get("ns"), 0)
			default:
				_, err = p.Revision(ctx, strings.TrimPrefix(path, "revisions/"), 0)
			}
			return err
		}
	}
	roll := func(r api.Rollback) func() error {
		return func() error { _, err := p.Rollback(ctx, r); return err }
	}
	undo := func(u api.Undo) func() error { return func() error { _, err := p.Undo(ctx, u); return err } }
	for _, c := range []struct {
		name   string
		call   func() error
		status int
		text   string
	}{
		{"a revision that is not held", get("revisions/" + unknown), 404, "another node may"},
		{"no revision", get("revisions/yesterday"), 400, "not a revision"},
		{"a revision of System", get("revisions/" + hidden), 404, "not found"},
		{"System", get("revisions?id=.system"), 400, ".system"},
		{"a key of System", get("diff?id=.system/settings"), 400, ".system"},
		{"blame of System", get("blame?id=.system/settings"), 400, ".system"},
		{"an empty part", get("revisions?id=hosts//web1"), 400, "empty part"},
		{"perms have no parts", get("revisions?id=hosts/web1/perms/ops"), 400, "as a whole"},
		{"a bad time", get("revisions?since=yesterday"), 400, "2026-01-31"},
		{"another bad time", get("diff?id=hosts/web1&from=yesterday"), 400, "neither a revision nor a time"},
		{"a namespace that is not there", get("revisions?id=vips"), 404, "vips"},
		{"no such namespace to compare", get("diff?id=vips&from=1h"), 404, "vips"},
		{"a key that never was", get("diff?id=hosts/web7"), 404, "hosts/web7"},
		{"a key that is in neither state", get("diff?id=hosts/web7&from=1h"), 404, "hosts/web7"},
		{"blame of what is not there", get("blame?id=hosts/web7"), 404, "hosts/web7"},
		{"blame of a list of keys", get("blame?id=hosts"), 400, "names no key"},
		{"blame of a member", get("blame?id=tags/web/members/web1"), 400, "tags/web/members"},
		{"conflicts of a key", get("conflicts?ns=hosts/web1"), 400, "namespace alone"},
		{"conflicts of System", get("conflicts?ns=.system"), 400, ".system"},
		{"rollback of a namespace", roll(api.Rollback{ID: "hosts", To: rev, Log: "x"}), 400, "names no key"},
		{"rollback of System", roll(api.Rollback{ID: ".system/settings", To: rev, Log: "x"}), 400, ".system"},
		{"rollback without a log", roll(api.Rollback{ID: "hosts/web1", To: rev, Log: " "}), 400, "say why"},
		{"rollback to nothing", roll(api.Rollback{ID: "hosts/web1", Log: "x"}), 400, "to is empty"},
		{"rollback to what is not held", roll(api.Rollback{ID: "hosts/web1", To: unknown, Log: "x"}), 404, "another node may"},
		{"rollback of what never was", roll(api.Rollback{ID: "hosts/web7", To: rev, Log: "x"}), 404, "neither now nor then"},
		{"rollback of a value that never was", roll(api.Rollback{ID: "hosts/web1/Disk", To: rev, Log: "x"}), 404, "neither now nor then"},
		{"undo without a log", undo(api.Undo{Revision: rev}), 400, "say why"},
		{"undo of System", undo(api.Undo{Revision: hidden, Log: "x"}), 404, "not found"},
		{"undo of what is not held", undo(api.Undo{Revision: unknown, Log: "x"}), 404, "another node may"},
		{"read-only without a reason", func() error { _, err := p.SetReadOnly(ctx, true, " "); return err }, 400, "say why"},
	} {
		if err := c.call(); status(err) != c.status || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %d %v; want %d with %q", c.name, status(err), err, c.status, c.text)
		}
	}

	bob := p.as("bob", false)
	if _, err := bob.Rollback(ctx, api.Rollback{ID: "hosts/web1", To: "2026-01-01", Log: "x"}); !errors.Is(err, api.ErrDenied) {
		t.Errorf("bob rolls back: %v", err)
	}
	if _, err := bob.Undo(ctx, api.Undo{Revision: rev, Log: "x"}); !errors.Is(err, api.ErrDenied) {
		t.Errorf("bob undoes: %v", err)
	}
	if _, err := bob.SetReadOnly(ctx, true, "mine"); !errors.Is(err, api.ErrDenied) {
		t.Errorf("bob switches: %v", err)
	}
	nobody := p.as("", false)
	if _, err := nobody.Undo(ctx, api.Undo{Revision: rev, Log: "x"}); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("nobody undoes: %v", err)
	}
	if _, err := nobody.SetReadOnly(ctx, true, "mine"); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("nobody switches: %v", err)
	}
}

func TestDiff(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	first := p.write("alice", "1", put("hosts/web1", "{CPU: 2, Disk: 10}"), put("tags/web", "{}"), members("tags/web", "web1"))
	second := p.write("bob", "2", put("hosts/web1/CPU", "4"), perms("hosts/web1", "{bob: {data: RW}}"))
	third := p.write("bob", "3", rename("hosts/web1", "www1"))
	p.write("alice", "4", put("hosts/web2", "{}"))
	const cpu = "--- hosts/web1\n+++ hosts/web1\n@@ -1,2 +1,2 @@\n-CPU: 2\n+CPU: 4\n Disk: 10\n"
	const acl = "--- /dev/null\n+++ hosts/web1/perms\n@@ -0,0 +1,2 @@\n+bob:\n+  data: RW\n"
	for _, c := range []struct {
		name, id, from, to string
		want               []api.KeyDiff
	}{
		{"between revisions", "hosts/web1", first, second, []api.KeyDiff{{ID: "hosts/web1", Kind: "set", Diff: cpu + acl}}},
		{"by the new name", "hosts/www1", first, second, []api.KeyDiff{{ID: "hosts/web1", Kind: "set", Diff: cpu + acl}}},
		{"of a value", "hosts/www1/CPU", first, "", []api.KeyDiff{{ID: "hosts/www1", Kind: "rename", From: "hosts/web1",
			Diff: "--- hosts/web1/CPU\n+++ hosts/www1/CPU\n@@ -1 +1 @@\n-2\n+4\n"}}},
		{"the last change", "hosts/www1", "", "", []api.KeyDiff{{ID: "hosts/www1", Kind: "rename", From: "hosts/web1", Diff: "rename from hosts/web1\nrename to hosts/www1\n"}}},
		{"the last change up to", "hosts/web1", "", second, []api.KeyDiff{{ID: "hosts/web1", Kind: "set", Diff: cpu + acl}}},
		{"the last change of members", "tags/web/members", "", "", []api.KeyDiff{{ID: "tags/web", Kind: "set", Diff: "--- tags/web/members\n+++ tags/web/members\n@@ -1 +1 @@\n-web1\n+www1\n"}}},
		{"one member", "tags/web/members/web1", first, "", []api.KeyDiff{{ID: "tags/web", Kind: "set", Diff: "--- tags/web/members/web1\n+++ /dev/null\n@@ -1 +0,0 @@\n-web1\n"}}},
		{"nothing between", "hosts/web1", first, first, []api.KeyDiff{}},
		{"backwards", "hosts/web1/CPU", second, first, []api.KeyDiff{{ID: "hosts/web1", Kind: "set", Diff: "--- hosts/web1/CPU\n+++ hosts/web1/CPU\n@@ -1 +1 @@\n-4\n+2\n"}}},
		{"creation", "hosts/web2", "", "", []api.KeyDiff{{ID: "hosts/web2", Kind: "create", Diff: "--- /dev/null\n+++ hosts/web2\n@@ -0,0 +1 @@\n+{}\n"}}},
		{"a namespace", "tags", third, "", []api.KeyDiff{}},
		{"everything", "", third, "", []api.KeyDiff{{ID: "hosts/web2", Kind: "create", Diff: "--- /dev/null\n+++ hosts/web2\n@@ -0,0 +1 @@\n+{}\n"}}},
	} {
		d, err := p.Diff(ctx, c.id, api.DiffQuery{From: c.from, To: c.to})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, d.Keys); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	d := must[api.Diff](t)(p.Diff(ctx, "hosts/web1", api.DiffQuery{From: first}))
	if d.From.Revision != first || d.From.Time == nil || d.To != (api.DiffSide{}) {
		t.Errorf("from %+v to %+v", d.From, d.To)
	}
	// Page by page, and never System.
	var got []string
	for q := (api.DiffQuery{From: "2026-01-01", Limit: 1}); ; {
		d := must[api.Diff](t)(p.Diff(ctx, "", q))
		for _, k := range d.Keys {
			got = append(got, k.Kind+" "+k.ID)
		}
		if !d.More {
			break
		}
		q.After = d.Next
	}
	if want := []string{"create hosts/web2", "create hosts/www1", "create tags/web"}; !slices.Equal(got, want) {
		t.Errorf("since the beginning: %v, want %v", got, want)
	}
}

func TestBlame(t *testing.T) {
	p := openPast(t, "a")
	first := p.write("alice", "1", put("hosts/web1", "{CPU: 2, Disk: 10}"))
	second := p.write("bob", "2", put("hosts/web1/CPU", "4"))
	p.write("carol", "3", rename("hosts/web1", "www1"), put("hosts/www1/Disk", "20"))
	b := must[api.Blame](t)(p.Blame(t.Context(), "hosts/www1", second))
	var got []string
	for _, l := range b.Lines {
		got = append(got, fmt.Sprint(l.Revision, " ", l.User, " ", l.Text))
	}
	if want := []string{second + " bob CPU: 4", first + " alice Disk: 10"}; !slices.Equal(got, want) {
		t.Errorf("blame is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if b := must[api.Blame](t)(p.Blame(t.Context(), "hosts/www1/Disk", "")); len(b.Lines) != 1 || b.Lines[0].User != "carol" || b.ID != "hosts/www1/Disk" {
		t.Errorf("blame of a value: %+v", b)
	}
}

// exchange gives each what the other has.
func exchange(t *testing.T, a, b *past) {
	t.Helper()
	for range 2 {
		for origin, seq := range a.store.View().Vector() {
			raws, err := a.store.Operations(origin, b.store.View().Seq(origin), 1<<20)
			if err == nil && seq > b.store.View().Seq(origin) {
				_, err = b.store.Apply(context.Background(), raws)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		a, b = b, a
	}
}

func TestConflicts(t *testing.T) {
	a, b := openPast(t, "a"), openPast(t, "b")
	ctx := t.Context()
	a.write("alice", "new", put("hosts/web1", "{CPU: 2, Disk: 10}"), put("hosts/web2", "{}"), put("tags/web", "{}"))
	exchange(t, a, b)
	if list := must[api.ConflictList](t)(b.Conflicts(ctx, "", 0)); len(list.Conflicts) != 0 || list.More {
		t.Errorf("there are %+v already", list)
	}
	lost := a.write("alice", "more", put("hosts/web1/CPU", "4"), put("hosts/web2/Disk", "1"))
	a.clock.now, b.clock.now = a.clock.now.Add(time.Minute), a.clock.now.Add(time.Minute) // bob writes last
	won := b.write("bob", "gone", func(tx *hostdb.Tx) error { return tx.DeletePath("hosts", "web1", []string{"CPU"}) })
	exchange(t, a, b)
	for _, p := range []*past{a, b} {
		list := must[api.ConflictList](t)(p.Conflicts(ctx, "hosts", 0))
		if len(list.Conflicts) != 1 {
			t.Fatalf("conflicts: %+v", list)
		}
		c := list.Conflicts[0]
		if c.Place() != "hosts/web1/CPU" || c.Winner.Revision != won || c.Winner.User != "bob" || c.Winner.Value != nil || !c.Winner.Held ||
			c.Loser.Revision != lost || c.Loser.User != "alice" || c.Loser.Value == nil || *c.Loser.Value != "4" || c.Loser.Log != "more" {
			t.Errorf("conflict: %+v", c)
		}
		if want := []string{"hosts/web2"}; !slices.Equal(c.Loser.Also, want) {
			t.Errorf("the loser also wrote %v, want %v", c.Loser.Also, want)
		}
		if list := must[api.ConflictList](t)(p.Conflicts(ctx, "tags", 0)); len(list.Conflicts) != 0 {
			t.Errorf("conflicts of tags: %+v", list)
		}
	}
	if _, err := a.Conflicts(ctx, "vips", 0); status(err) != 404 {
		t.Errorf("of a namespace that is not there: %v", err)
	}
}
