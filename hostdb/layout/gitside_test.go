package layout_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// Both sides change the same keys: a commit writes only what it changes.
func TestGitImportBesideOthers(t *testing.T) {
	cases := []struct {
		name          string
		before, after map[string]string // the commit
		here          func(tx *hostdb.Tx) error
		file, want    string
		missing       bool
	}{
		{
			"another value", map[string]string{"hosts/a": "x: 1\ny: {z: 1}\n"}, map[string]string{"hosts/a": "x: 2\ny: {z: 1}\n"},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"y", "w"}, text("here")) },
			"hosts/a", "x: 2\ny:\n  w: here\n  z: 1\n", false,
		}, {
			"the same value", map[string]string{"hosts/a": "x: 1\n"}, map[string]string{"hosts/a": "x: 2\n"},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"x"}, text("here")) },
			"hosts/a", "x: 2\n", false,
		}, {
			"emptied there, filled here", map[string]string{"hosts/a": "x: {y: 1}\n"}, map[string]string{"hosts/a": "x: {}\n"},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"x", "w"}, text("here")) },
			"hosts/a", "x:\n  w: here\n", false,
		}, {
			"a mapping becomes a value", map[string]string{"hosts/a": "x: {y: 1}\n"}, map[string]string{"hosts/a": "x: 5\n"},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"x", "w"}, text("here")) },
			"hosts/a", "x: 5\n", false,
		}, {
			"renamed there, changed here", map[string]string{"hosts/a": "x: 1\n", "tags/t": "", "tags/.members/t": "a\n"},
			map[string]string{"hosts/b": "x: 1\n", "tags/t": "", "tags/.members/t": "b\n"},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"w"}, text("here")) },
			"hosts/b", "w: here\nx: 1\n", false,
		}, {
			"renamed there, a member of more here", map[string]string{"hosts/a": "x: 1\n", "tags/t": "", "tags/u": ""},
			map[string]string{"hosts/b": "x: 1\n", "tags/t": "", "tags/u": ""},
			func(tx *hostdb.Tx) error { return tx.AddMember("tags", "u", "a") },
			"tags/.members/u", "b\n", false,
		}, {
			"members of both", map[string]string{"hosts/a": "", "hosts/b": "", "hosts/c": "", "hosts/d": "", "tags/t": "", "tags/.members/t": "# first\na\nb\n"},
			map[string]string{"hosts/a": "", "hosts/b": "", "hosts/c": "", "hosts/d": "", "tags/t": "", "tags/.members/t": "# one\na\nc\n"},
			func(tx *hostdb.Tx) error { return tx.AddMember("tags", "t", "d") },
			"tags/.members/t", "# one\na\nc\nd\n", false,
		}, {
			"deleted there, changed here", map[string]string{"hosts/a": "x: 1\n", "hosts/b": ""}, map[string]string{"hosts/b": ""},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"x"}, text("here")) },
			"hosts/a", "", true,
		}, {
			"deleted here, changed there", map[string]string{"hosts/a": "x: 1\ny: 1\n"}, map[string]string{"hosts/a": "x: 2\ny: 1\n"},
			func(tx *hostdb.Tx) error { return tx.Delete("hosts", "a") },
			"hosts/a", "x: 2\ny: 1\n", false,
		}, {
			"perms", map[string]string{"hosts/a": "x: 1\n", "hosts/.perms/a": "ops: {data: RW}\n"}, map[string]string{"hosts/a": "x: 1\n"},
			func(tx *hostdb.Tx) error { return tx.PutPath("hosts", "a", []string{"x"}, text("here")) },
			"hosts/.perms/a", "", true,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			h.commit("before", c.before)
			h.flush()
			s := openStore(t, nil)
			h.importInto(s)
			if _, err := s.Update(context.Background(), hostdb.Request{User: "alice", Log: "here"}, c.here); err != nil {
				t.Fatal(err)
			}
			h.commit("after", c.after)
			h.flush()
			if r := h.importInto(s); r.Commits != 1 || len(r.Problems) > 0 {
				t.Errorf("%+v", r)
			}
			got, there := contents(t, mustExport(t, s.View()))[c.file]
			if got != c.want || there == c.missing {
				t.Errorf("%s is %q, want %q", c.file, got, c.want)
			}
		})
	}
}

func text(s string) hostdb.Document { return hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(s)}) }

// The history of a key follows a rename in Git, and each revision says where it came from.
func TestGitImportKeepsHistory(t *testing.T) {
	h := newHistory(t)
	h.commit("made\n\nat last", map[string]string{"hosts/a": "x: 1\n", "tags/t": "", "tags/.members/t": "a\n", "tags/.perms/t": "ops: {data: RW}\n"})
	h.commit("renamed", map[string]string{"hosts/b": "x: 1\n", "tags/u": "", "tags/.members/u": "b\n", "tags/.perms/u": "ops: {data: RW}\n"})
	h.flush()
	s := openStore(t, nil)
	h.importInto(s)
	list, _, err := s.Revisions(context.Background(), hostdb.RevisionQuery{Scope: hostdb.Scope{NS: hostdb.Hosts, Key: "b"}})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d revisions: %v", len(list), err)
	}
	first := list[1]
	if first.User != "user 1" || first.Log != "made\n\nat last" || first.Source == nil || first.Source.Email != "user1@example.com" ||
		first.Source.Zone != 330 || first.Source.Seconds != 1_400_000_060 || first.At.Unix() != 1_400_000_060 {
		t.Errorf("%+v %+v", first, first.Source)
	}
	if want := strings.TrimSpace(git(t, h.dir, "", "rev-parse", "main")); list[0].Source.Ref != want {
		t.Errorf("made by %s, want %s", list[0].Source.Ref, want)
	}
	renames := 0
	for _, e := range list[0].Effects {
		if e.Kind == hostdb.CreateKey && e.From != "" {
			renames++
		}
	}
	if renames != 2 {
		t.Errorf("%d renames in %+v", renames, list[0].Effects)
	}
}

// Two imports of one history do not do anything twice.
func TestGitImportTwiceAtOnce(t *testing.T) {
	h := newHistory(t)
	h.commit("first", map[string]string{"hosts/a": "x: 1\n"})
	h.commit("second", map[string]string{"hosts/a": "x: 2\n"})
	h.flush()
	s := openStore(t, nil)
	stream := h.streamFor(s.View())
	if _, err := importStream(s, bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	before := s.View().Version()
	if _, err := importStream(s, bytes.NewReader(stream)); !errors.Is(err, layout.ErrGitMoved) {
		t.Errorf("%v", err)
	}
	if s.View().Version() != before {
		t.Error("the second import wrote")
	}
	if _, err := layout.NewGitReader(strings.NewReader("GIF89a")); !errors.Is(err, layout.ErrBadGitStream) {
		t.Errorf("%v", err)
	}
}

// A merge is one commit, with what it changes against its first parent.
func TestGitImportOfMerges(t *testing.T) {
	h := newHistory(t)
	h.commit("first", map[string]string{"hosts/a": "x: 1\n"})
	h.flush()
	git(t, h.dir, `commit refs/heads/side
committer git <git@example.com> 1400000100 +0000
data 5
side
from refs/heads/main^0
M 100644 inline hosts/b
data 5
y: 1

commit refs/heads/side
committer git <git@example.com> 1400000160 +0000
data 5
more
M 100644 inline hosts/c
data 5
y: 2

commit refs/heads/main
committer bob <bob@example.com> 1400000200 -0330
data 6
merge
from refs/heads/main^0
merge refs/heads/side
M 100644 inline hosts/b
data 5
y: 1
M 100644 inline hosts/c
data 5
y: 2
`, "fast-import", "--quiet")
	s := openStore(t, nil)
	if r := h.importInto(s); r.Commits != 2 || r.Operations != 2 || r.Merges != 1 {
		t.Errorf("%+v", r)
	}
	sameView(t, h.checkout(), s.View())
}

func FuzzGitReader(f *testing.F) {
	h := newHistory(f)
	h.commit("first", map[string]string{"hosts/a": "x: 1\n", "tags/t": "", "tags/.members/t": "a\n@t\nno\n"})
	h.commit("second", map[string]string{"hosts/b": "x: 1\n", "tags/t": "x: [", "tags/.members/t": "b\n", "tags/.perms/.default": "a: {data: RW}"})
	h.flush()
	f.Add(h.streamFor(hostdb.View{}))
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := openStore(t, nil)
		_, _ = importStream(s, bytes.NewReader(stream)) // any error will do
		if _, err := layout.Export(s.View()); err != nil {
			t.Fatal(err)
		}
	})
}
