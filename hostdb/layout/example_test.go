package layout_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

var example = os.DirFS("../../examples/inventory")

// entries are the names in a directory of the example that are no dot files.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	list, err := fs.ReadDir(example, dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		if e.Name()[0] != '.' {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestImportOfTheExample(t *testing.T) {
	s := openStore(t, nil)
	inv := mustRead(t, example, layout.Options{})
	if inv.Problems.Total != 0 {
		t.Fatalf("problems: %q", texts(inv.Problems))
	}
	var last, total int
	r, err := layout.Import(context.Background(), s, inv, importer, func(d, n int) { last, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	hosts, tags, lists, perms := entries(t, "hosts"), entries(t, "tags"), entries(t, "tags/.members"), entries(t, "tags/.perms")
	perms = append(perms, entries(t, "hosts/.perms")...)
	if len(hosts) != 240 || len(tags) != 133 || len(lists) != 132 {
		t.Errorf("the example has %d hosts, %d tags, %d member lists", len(hosts), len(tags), len(lists))
	}
	got := fmt.Sprint(r.Keys, r.Members, r.Perms, r.LeftAlone, r.Missing)
	want := fmt.Sprint(layout.Tally{Created: len(hosts) + len(tags)}, layout.Tally{Created: len(lists)},
		layout.Tally{Created: len(perms) + 2}, 0, []string(nil))
	if got != want {
		t.Errorf("report %s, want %s", got, want)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}

	v := s.View()
	if got := slices.Collect(v.Keys(hostdb.Hosts)); !slices.Equal(got, hosts) {
		t.Errorf("hosts are %q", got)
	}
	if got := slices.Collect(v.Keys(hostdb.Tags)); !slices.Equal(got, tags) {
		t.Errorf("tags are %q", got)
	}
	wantParents := []string{"all", "dc1", "ipv6", "patch-thursday", "prod-dc1", "production", "shipping", "shipping-dc1",
		"shipping-web", "shipping-web-dc1", "web"}
	if got := v.Parents("web1.dc1.example.com", hostdb.Tags); !slices.Equal(got, wantParents) {
		t.Errorf("parents of web1 are %q", got)
	}
	if got := v.Members(hostdb.Tags, "mysql"); !slices.Contains(got, "db1.dc1.example.com") {
		t.Errorf("mysql inherits %q", got)
	}
	for _, c := range []struct {
		file string
		key  string
	}{{"tags/.members/warehouse", "warehouse"}, {"tags/.members/bastions-dc2", "bastions-dc2"}} {
		raw, err := fs.ReadFile(example, c.file)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.RawMembers(hostdb.Tags, c.key), strings.TrimSuffix(string(raw), "\n"); got != want {
			t.Errorf("%s: %q, want %q", c.file, got, want)
		}
	}
	if got := v.Data(hostdb.Hosts, "logstore1.dc1.example.com").Text("Network", "MAC"); got != "00:11:22:33:44:55" {
		t.Errorf("MAC %q", got)
	}
	if !v.Data(hostdb.Tags, "shipping-notify").IsNull() {
		t.Error("tags/shipping-notify is not null")
	}
	if d := v.Permits(hostdb.Tags, "dc1", hostdb.Section("DNS"), "bob", []string{"web"}); !d.Allowed {
		t.Errorf("web may not change the zone: %s", d.Rule)
	}

	again := mustImport(t, s, example)
	if again.Operations != 0 || again.Keys != (layout.Tally{Unchanged: 373}) || again.Members != (layout.Tally{Unchanged: 132}) {
		t.Errorf("the second import: %+v", again)
	}
	if again.Version != v.Version() {
		t.Error("the second import changed the version")
	}
}

func TestExportOfTheExampleIsTheExample(t *testing.T) {
	s := openStore(t, nil)
	mustImport(t, s, example)
	out := mustExport(t, s.View())

	// Byte for byte where HostDB keeps bytes, by value where it keeps values.
	was, is := contents(t, example), contents(t, out)
	delete(was, "README.md")
	for name, text := range was {
		if filepath.Base(filepath.Dir(name)) == ".members" {
			if got := is[name]; strings.TrimSuffix(got, "\n") != strings.TrimSuffix(text, "\n") {
				t.Errorf("%s: %q, want %q", name, got, text)
			}
		} else {
			a, errA := hostdb.ParseDocument([]byte(text))
			b, errB := hostdb.ParseDocument([]byte(is[name]))
			if errA != nil || errB != nil || !a.Equal(b) {
				t.Errorf("%s: %q, want %q (%v, %v)", name, is[name], text, errA, errB)
			}
		}
		delete(is, name)
	}
	if len(is) != 0 {
		t.Errorf("%d files were not in the example: %v", len(is), is)
	}

	// Through a directory and through a tar stream, into other stores.
	dir := filepath.Join(t.TempDir(), "out")
	if err := os.CopyFS(dir, out); err != nil {
		t.Fatal(err)
	}
	fromDir := openStore(t, nil)
	mustImport(t, fromDir, os.DirFS(dir))
	sameView(t, s.View(), fromDir.View())

	var stream bytes.Buffer
	if _, err := layout.WriteTar(&stream, example, false); err != nil {
		t.Fatal(err)
	}
	unpacked, err := layout.ReadTar(&stream, layout.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	fromTar := openStore(t, nil)
	mustImport(t, fromTar, unpacked)
	sameView(t, s.View(), fromTar.View())
}
