package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHostdbOptions: what Perl's Getopt::Long takes, scripts are written in.
func TestHostdbOptions(t *testing.T) {
	for _, c := range []struct {
		args string
		want hostdbOptions
		rest string
		err  string
	}{
		{"-r 1a hosts/a", hostdbOptions{rev: "1a"}, "hosts/a", ""},
		{"hosts/a --rev 1a", hostdbOptions{rev: "1a"}, "hosts/a", ""},
		{"-rev=1a -o hosts/a", hostdbOptions{rev: "1a", raw: true}, "hosts/a", ""},
		{"--re 1a --orig", hostdbOptions{rev: "1a", raw: true}, "", ""},
		{"-R 1a -Y", hostdbOptions{rev: "1a", sure: true}, "", ""},
		{"-m -x -y", hostdbOptions{log: "-x", sure: true}, "", ""},
		{"-m= a", hostdbOptions{}, "a", ""},
		{"-l 7 -- -r", hostdbOptions{limit: 7}, "-r", ""},
		{"-", hostdbOptions{}, "-", ""},
		{"--l 7", hostdbOptions{limit: 7}, "", ""},
		{"--na x", hostdbOptions{}, "", "is not clear: --name or --namespace"},
		{"-l 0", hostdbOptions{}, "", "expected a number above 0"},
		{"-l", hostdbOptions{}, "", "--limit needs a value: COUNT"},
		{"--yes=no", hostdbOptions{}, "", "--yes takes no value"},
		{"--=x", hostdbOptions{}, "", "there is no option"},
		{"-mx", hostdbOptions{}, "", `there is no option "mx" here`},
	} {
		var got hostdbOptions
		rest, err := got.parse(strings.Fields("rev original limit log yes name namespace"), strings.Fields(c.args))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", c.args, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(fmt.Sprint(c.want), fmt.Sprint(got)); diff != "" || err != nil || strings.Join(rest, " ") != c.rest {
			t.Errorf("%s: %v, %v\n%s", c.args, rest, err, diff)
		}
	}
}

func TestPlainDiff(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"a\n", "a\n", ""},
		{"a\nb\nc\n", "a\nx\nc\n", "2c2\n< b\n---\n> x\n"},
		{"a\nc\n", "a\nb\nc\n", "1a2\n> b\n"},
		{"a\nb\nc\nd\n", "a\nd\n", "2,3d1\n< b\n< c\n"},
		{"", "a\nb\n", "0a1,2\n> a\n> b\n"},
		{"a\n", "", "1d0\n< a\n"},
		{"-- a\n++ b\n@@ c\nz\n", "z\n", "1,3d0\n< -- a\n< ++ b\n< @@ c\n"},
		{"z\n", "-- a\n++ b\nz\n", "0a1,2\n> -- a\n> ++ b\n"},
	} {
		if diff := cmp.Diff(c.want, plainDiff(c.from, c.to)); diff != "" {
			t.Errorf("%q to %q (-want +got):\n%s", c.from, c.to, diff)
		}
	}
}

func TestKindOf(t *testing.T) {
	for id, want := range map[string]idKind{
		"hosts/a": aDocument, "tags": aDocument, "hosts/a/members/": aList, "/tags/web/members": aList, "tags/web/members/a": aMember,
		"tags/web/perms": anACL, "tags/.default/perms": anACL, "hosts/a/Network/members": aDocument, "hosts/members/a": aDocument,
	} {
		if got := kindOf(id); got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

func TestAsCalled(t *testing.T) {
	for called, want := range map[string]string{"/usr/bin/hostmesh get x": "get x", "hostdb get x": "hostdb get x", "./bin/hostdb": "hostdb", "hostmesh": ""} {
		if got := strings.Join(asCalled(strings.Fields(called)), " "); got != want {
			t.Errorf("%s: %q, want %q", called, got, want)
		}
	}
}
