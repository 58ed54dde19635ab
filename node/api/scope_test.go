package api

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

func TestParseScope(t *testing.T) {
	for id, want := range map[string]hostdb.Scope{
		"":                               {},
		"/":                              {},
		"hosts":                          {NS: "hosts"},
		"/hosts/":                        {NS: "hosts"},
		"hosts/web1":                     {NS: "hosts", Key: "web1"},
		"hosts/web1/Network/IP":          {NS: "hosts", Key: "web1", What: hostdb.Data, Path: []string{"Network", "IP"}},
		"tags/web/members":               {NS: "tags", Key: "web", What: hostdb.Members},
		"tags/web/members/@web-dc1":      {NS: "tags", Key: "web", What: hostdb.Members, Member: "@web-dc1"},
		"tags/web/perms":                 {NS: "tags", Key: "web", What: hostdb.Perms},
		"tags/.default/perms":            {NS: "tags", Key: ".default", What: hostdb.Perms},
		"hosts/web1/Network/members/x y": {NS: "hosts", Key: "web1", What: hostdb.Data, Path: []string{"Network", "members", "x y"}},
	} {
		got, err := ParseScope(id)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %v %s", id, err, cmp.Diff(want, got))
		}
		again, err := ParseScope(ScopeID(got))
		if err != nil || !cmp.Equal(again, want) {
			t.Errorf("%q is written as %q, which is %+v %v", id, ScopeID(got), again, err)
		}
	}
	for id, want := range map[string]error{
		".system":              hostdb.ErrBadName,
		".system/users":        hostdb.ErrBadName,
		"hosts//web1":          hostdb.ErrBadName,
		"hosts/..":             hostdb.ErrBadName,
		"hosts/.git":           hostdb.ErrBadName,
		"hosts/\x00":           hostdb.ErrBadName,
		"tags/web/members/a/b": hostdb.ErrBadName,
		"tags/web/perms/ops":   hostdb.ErrNotAllowed,
	} {
		if got, err := ParseScope(id); !errors.Is(err, want) || got.NS == hostdb.System {
			t.Errorf("%q: %+v %v, want %v", id, got, err, want)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, id := range []string{"hosts/web1/Network/IP", "tags/web/members/@x", "tags/.default/perms", "//", ".system/x"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		sc, err := ParseScope(id)
		if err != nil {
			return
		}
		if sc.NS == hostdb.System {
			t.Fatalf("%q reaches System", id)
		}
		again, err := ParseScope(ScopeID(sc))
		if err != nil || !cmp.Equal(sc, again) {
			t.Fatalf("%q is %+v, written as %q it is %+v, %v", id, sc, ScopeID(sc), again, err)
		}
	})
}
