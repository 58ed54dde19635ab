package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// fakePast answers what a mesh that was cut in two would.
type fakePast struct{ api.History }

var pastTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (fakePast) Conflicts(_ context.Context, _ string, limit int) ([]api.Conflict, bool, error) {
	four := "4"
	list := []api.Conflict{
		{ID: "hosts/web1", What: "data", Path: "CPU",
			Winner: api.ConflictSide{Revision: "2.b", User: "bob", Time: pastTime, Log: "gone\nfor good", Held: true},
			Loser:  api.ConflictSide{Revision: "1.a", User: "alice", Time: pastTime, Log: "more", Value: &four, Held: true, Also: []string{"hosts/web2"}}},
		{ID: "tags/web", Winner: api.ConflictSide{Revision: "4.b", Time: pastTime}, Loser: api.ConflictSide{Revision: "3.a", Time: pastTime}},
	}
	return list[:min(limit, len(list))], limit < len(list), nil
}

func (fakePast) Blame(context.Context, hostdb.Scope, string) (api.Blame, error) {
	no := false
	return api.Blame{ID: "hosts/web1", Settled: &no, Lines: []api.BlameLine{
		{Revision: "1.a", User: "alice", Time: pastTime, Text: "Network:"},
		{Revision: "2.b", User: "root(bob)", Time: pastTime, Text: "  IP: 10.1.0.1\x1b[2J"},
	}}, nil
}

func (fakePast) Revisions(_ context.Context, q api.RevisionQuery) (api.RevisionList, error) {
	list := []api.Revision{
		{ID: "3.a", User: "alice", Time: pastTime, Log: "all of it\nand why", Omitted: 7, Changes: []api.RevisionChange{{ID: "hosts/web1", Kind: "create"}}},
		{ID: "2.a", User: "alice", Time: pastTime, Log: "two", Changes: []api.RevisionChange{{ID: "hosts/web1", Kind: "create"}, {ID: "hosts/web2", Kind: "create"}, {ID: "hosts/web3", Kind: "create"}}},
		{ID: "1.a", Time: pastTime, Changes: []api.RevisionChange{{ID: "tags/web", What: "members", Path: "web1", Kind: "set"}}},
	}
	for i, r := range list {
		if r.ID == q.Before {
			list = list[i+1:]
			break
		}
	}
	if len(list) > 1 { // in pieces, whatever is asked for
		return api.RevisionList{Revisions: list[:1], More: true, Next: list[0].ID}, nil
	}
	return api.RevisionList{Revisions: list}, nil
}

func (f fakePast) serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(shortTempDir(t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: api.NewHandler(api.Config{History: f, Conflicts: f})}}
	srv.Start()
	t.Cleanup(srv.Close)
	return socket
}

func TestPastOutput(t *testing.T) {
	socket := fakePast{}.serve(t)
	for _, c := range []struct{ args, out, errs string }{
		{"db conflicts", `hosts/web1/CPU
  won:  revision 2.b by bob, 2026-03-01 12:00:00: gone
    (removed)
  lost:  revision 1.a by alice, 2026-03-01 12:00:00: more
    4
  the losing revision also wrote hosts/web2

tags/web
  won:  revision 4.b of 2026-03-01 12:00:00, which this node does not hold
  lost:  revision 3.a of 2026-03-01 12:00:00, which this node does not hold
`, ""},
		{"db conflicts hosts -n 1 -o json", "", "only the first 1 are shown"},
		{"db blame hosts/web1 --as-of 1h", "1.a  alice      2026-03-01 12:00:00  | Network:\n2.b  root(bob)  2026-03-01 12:00:00  |   IP: 10.1.0.1\ufffd[2J\n", "not settled"},
		{"db log", `REVISION  TIME                 USER   WHAT                     MESSAGE
3.a       2026-03-01 12:00:00  alice  hosts/web1 and others    all of it
2.a       2026-03-01 12:00:00  alice  hosts/web1 and 2 others  two
1.a       2026-03-01 12:00:00  -      tags/web/members/web1    -
`, ""},
		{"db log -n 2 --stat", `revision 3.a
user:    alice
time:    2026-03-01 12:00:00 UTC

    all of it
    and why

create hosts/web1
and 7 other changes

revision 2.a
user:    alice
time:    2026-03-01 12:00:00 UTC

    two

create hosts/web1
create hosts/web2
create hosts/web3
`, ""},
	} {
		code, out, errs := hostmesh(t, append([]string{"--socket", socket}, strings.Fields(c.args)...)...)
		if diff := cmp.Diff(c.out, out); code != exitDone || c.out != "" && diff != "" || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("%s: exit code %d, %q (-want +got):\n%s", c.args, code, errs, diff)
		}
	}
}

func TestValuesText(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		was, is *string
		want    string
	}{
		{nil, text("2"), "+2\n"},
		{text("a: 1\nb: 2"), nil, "-a: 1\n-b: 2\n"},
		{text("2"), text("4"), "-2\n+4\n"},
		{text("a: 1\nb: 2"), text("a: 1\nb: 3"), "@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n"},
	} {
		var b strings.Builder
		if valuesText(&b, c.was, c.is); b.String() != c.want {
			t.Errorf("got %q, want %q", b.String(), c.want)
		}
	}
}
