package node

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

func (p *past) data(id string) string {
	ns, key, _ := strings.Cut(id, "/")
	if !p.store.View().Exists(ns, key) {
		return ""
	}
	return p.store.View().Data(ns, key).YAML()
}

func TestRollback(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	first := p.write("alice", "1", put("hosts/web1", "{CPU: 2, Disks: [a], Net: {IP: 10.1.0.1}}"), put("hosts/web2", "{}"),
		put("tags/web", "{Port: 80}"), members("tags/web", "web1\nweb2"), perms("tags/web", "{bob: {members: RW}}"))
	second := p.write("alice", "2", put("hosts/web1", "{CPU: 4, Disks: [b], Net: down}"), remove("hosts/web2"),
		put("tags/web", "{Port: 443}"), members("tags/web", ""), perms("tags/web", "{bob: {data: RW}}"))

	for _, c := range []struct {
		name, id, to string
		changes      []string
		warnings     int
	}{
		{"a value", "hosts/web1/CPU", first, []string{"set hosts/web1/CPU -4 +2"}, 0},
		{"a value that has become something else", "hosts/web1/Net", first, []string{"remove hosts/web1/Net -down", "set hosts/web1/Net/IP +10.1.0.1"}, 0},
		{"a list", "hosts/web1/Disks", first, []string{"set hosts/web1/Disks -- b +- a"}, 0},
		{"members, but those that are gone", "tags/web/members", first, []string{"set tags/web/members/web1 +web1"}, 1},
		{"an access list", "tags/web/perms", first, []string{"set tags/web/perms -bob:|  data: RW +bob:|  members: RW"}, 0},
		{"the rest of a key", "tags/web", first, []string{"set tags/web/Port -443 +80"}, 1},
		{"all of a key, forth", "tags/web", second, []string{"set tags/web/Port -80 +443", "remove tags/web/members/web1 -web1", "set tags/web/perms -bob:|  members: RW +bob:|  data: RW"}, 0},
		{"a deleted key", "hosts/web2", first, []string{"create hosts/web2 +{}"}, 0},
		{"one member", "tags/web/members/web2", first, []string{"set tags/web/members/web2 +web2"}, 0},
		{"a key that was not there", "hosts/web2", "2026-01-01", []string{"delete hosts/web2 -{}", "remove tags/web/members/web2 -web2"}, 1},
		{"to what it is", "tags/web/perms", second, []string{}, 0},
	} {
		version := p.store.View().Version().String()
		dry, err := p.Rollback(ctx, api.Rollback{ID: c.id, To: c.to, Log: c.name, DryRun: true})
		if err != nil {
			t.Errorf("%s, dry: %v", c.name, err)
		}
		if got := lines(dry.Changes); !slices.Equal(got, c.changes) || dry.Revision != "" || dry.Acks != 0 {
			t.Errorf("%s, dry: %+v (-want +got):\n%s", c.name, dry, cmp.Diff(c.changes, got))
		}
		if p.store.View().Version().String() != version {
			t.Errorf("%s: the dry run wrote", c.name)
		}
		done, err := p.Rollback(ctx, api.Rollback{ID: c.id, To: c.to, Log: c.name})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.changes, lines(done.Changes)); diff != "" || len(done.Warnings) != c.warnings || (done.Revision == "") != (len(c.changes) == 0) {
			t.Errorf("%s: %+v (-want +got):\n%s", c.name, done, diff)
		}
		if done.Revision == "" {
			continue
		}
		if r := must[api.Revision](t)(p.Revision(ctx, done.Revision, 0)); r.Log != c.name || r.User != "alice" || !slices.Equal(lines(r.Changes), c.changes) {
			t.Errorf("%s left the revision %+v", c.name, r)
		}
	}

	// Under a list a path means its items, so a value that stood there cannot be put back alone.
	p.write("alice", "list", put("hosts/web1/Net", "[eth0]"))
	if _, err := p.Rollback(ctx, api.Rollback{ID: "hosts/web1/Net/IP", To: first, Log: "x"}); status(err) != 400 || !strings.Contains(err.Error(), "hosts/web1/Net is a list now") {
		t.Errorf("a value where a list is now: %v", err)
	}
}

func TestRollbackFollowsRenames(t *testing.T) {
	p := openPast(t, "a")
	first := p.write("alice", "1", put("hosts/web1", "{CPU: 2}"))
	p.write("alice", "2", put("hosts/web1/CPU", "4"))
	p.write("alice", "3", rename("hosts/web1", "www1"))
	done := must[api.Restored](t)(p.Rollback(t.Context(), api.Rollback{ID: "hosts/www1", To: first, Log: "x"}))
	if want := []string{"set hosts/www1/CPU -4 +2"}; !slices.Equal(lines(done.Changes), want) || p.data("hosts/www1") != "CPU: 2\n" || p.data("hosts/web1") != "" {
		t.Errorf("%v; www1 is %q, web1 %q", lines(done.Changes), p.data("hosts/www1"), p.data("hosts/web1"))
	}
}

func TestRollbackIfUnchanged(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	first := p.write("alice", "1", put("hosts/web1", "{CPU: 2}"))
	seen := p.write("alice", "2", put("hosts/web1/CPU", "4"))
	p.write("bob", "3", put("hosts/web2", "{}")) // somewhere else
	if _, err := p.Rollback(ctx, api.Rollback{ID: "hosts/web1", To: first, Log: "x", IfUnchangedSince: seen, DryRun: true}); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	p.write("bob", "4", put("hosts/web1/CPU", "8"))
	if _, err := p.Rollback(ctx, api.Rollback{ID: "hosts/web1", To: first, Log: "x", IfUnchangedSince: seen}); status(err) != 412 || !strings.Contains(err.Error(), "hosts/web1 was changed since "+seen) {
		t.Errorf("changed: %v", err)
	}
	if got := p.data("hosts/web1"); got != "CPU: 8\n" {
		t.Errorf("bob's write became %q", got)
	}
}

func TestUndo(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	p.write("alice", "1", put("hosts/web1", "{CPU: 2, Disk: 1}"), put("hosts/web2", "{CPU: 2}"), put("tags/web", "{}"), members("tags/web", "web1"))
	second := p.write("alice", "2", put("hosts/web1/CPU", "4"), put("hosts/web2/CPU", "4"), members("tags/web", "web1\nweb2"))
	p.write("bob", "3", put("hosts/web1/Disk", "9"))
	want := []string{"set hosts/web1/CPU -4 +2", "set hosts/web2/CPU -4 +2", "remove tags/web/members/web2 -web2"}
	dry := must[api.Restored](t)(p.Undo(ctx, api.Undo{Revision: second, Log: "x", DryRun: true}))
	if diff := cmp.Diff(want, lines(dry.Changes)); diff != "" || dry.Revision != "" || p.data("hosts/web1") != "CPU: 4\nDisk: 9\n" {
		t.Errorf("dry: %+v (-want +got):\n%s", dry, diff)
	}
	done := must[api.Restored](t)(p.Undo(ctx, api.Undo{Revision: second, Log: "not that"}))
	if diff := cmp.Diff(want, lines(done.Changes)); diff != "" || done.Revision == "" || done.Acks != 1 || p.data("hosts/web1") != "CPU: 2\nDisk: 9\n" {
		t.Errorf("%+v (-want +got):\n%s", done, diff)
	}
	// Again there is nothing to do, and the undoing can be undone.
	if again := must[api.Restored](t)(p.Undo(ctx, api.Undo{Revision: second, Log: "x"})); again.Revision != "" || len(again.Changes) != 0 {
		t.Errorf("again: %+v", again)
	}
	must[api.Restored](t)(p.Undo(ctx, api.Undo{Revision: done.Revision, Log: "yes, that"}))
	if got := p.data("hosts/web2"); got != "CPU: 4\n" {
		t.Errorf("undone and redone: %q", got)
	}

	// What others have written over is named, place by place, and left.
	p.write("bob", "4", put("hosts/web1/CPU", "8"))
	_, err := p.Undo(ctx, api.Undo{Revision: second, Log: "x"})
	if status(err) != 409 || !strings.Contains(err.Error(), "(hosts/web1/CPU)") || strings.Contains(err.Error(), "web2") {
		t.Errorf("written over: %v", err)
	}
	if got := p.data("hosts/web2"); got != "CPU: 4\n" {
		t.Errorf("a refused undo wrote: %q", got)
	}
	must[api.Restored](t)(p.Undo(ctx, api.Undo{Revision: second, Log: "all the same", Force: true}))
	if got := p.data("hosts/web1"); got != "CPU: 2\nDisk: 9\n" {
		t.Errorf("by force: %q", got)
	}
}

func TestReadOnly(t *testing.T) {
	p := openPast(t, "a")
	ctx := t.Context()
	rev := p.write("alice", "1", put("hosts/web1", "{CPU: 2}"))
	version := p.store.View().Version().String()
	if got := must[api.ReadOnly](t)(p.SetReadOnly(ctx, false, "never was")); got.On || p.store.View().Version().String() != version {
		t.Errorf("off when it is off: %+v, and it wrote", got)
	}
	got := must[api.ReadOnly](t)(p.SetReadOnly(ctx, true, "the datacenter moves"))
	if !got.On || got.Reason != "the datacenter moves" || got.Since == nil {
		t.Errorf("on: %+v", got)
	}
	version = p.store.View().Version().String()
	must[api.ReadOnly](t)(p.SetReadOnly(ctx, true, "the datacenter moves"))
	if p.store.View().Version().String() != version {
		t.Error("on again wrote")
	}
	if _, err := p.Undo(ctx, api.Undo{Revision: rev, Log: "x"}); !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "the datacenter moves") {
		t.Errorf("a write: %v", err)
	}
	if _, err := p.Undo(ctx, api.Undo{Revision: rev, Log: "x", DryRun: true}); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("a dry run: %v", err)
	}
	if list := must[api.RevisionList](t)(p.Revisions(ctx, "", api.RevisionQuery{})); len(list.Revisions) != 1 {
		t.Errorf("reads go on: %+v", list)
	}
	if got := must[api.ReadOnly](t)(p.SetReadOnly(ctx, false, "")); got.On || got.Reason != "" || got.Since != nil {
		t.Errorf("off: %+v", got)
	}
	must[api.Restored](t)(p.Undo(ctx, api.Undo{Revision: rev, Log: "x"}))
	if p.store.View().Exists(hostdb.Hosts, "web1") {
		t.Error("nothing was undone")
	}
}
