package layout_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/layout"
)

// openStore opens a Store over m, a new Memory when it is nil.
func openStore(t testing.TB, m *hostdbtest.Memory, more ...func(*hostdb.Config)) *hostdb.Store {
	t.Helper()
	if m == nil {
		m = hostdbtest.NewMemory()
	}
	cfg := hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return m, nil }}
	for _, fn := range more {
		fn(&cfg)
	}
	s, err := hostdb.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var importer = hostdb.Request{User: "tester", Log: "import"}

func mustRead(t testing.TB, fsys fs.FS, opts layout.Options) *layout.Inventory {
	t.Helper()
	inv, err := layout.Read(context.Background(), fsys, opts)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func mustImport(t testing.TB, s *hostdb.Store, fsys fs.FS) layout.Report {
	t.Helper()
	inv := mustRead(t, fsys, layout.Options{Into: s.View()})
	r, err := layout.Import(context.Background(), s, inv, importer, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustExport(t testing.TB, v hostdb.View) fs.FS {
	t.Helper()
	fsys, err := layout.Export(v)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// files makes a directory of texts.
func files(texts map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range texts {
		out[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return out
}

// contents are all files of fsys, by name.
func contents(t testing.TB, fsys fs.FS) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(fsys, name)
		out[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// texts are the problems, one string each, warnings marked.
func texts(ps layout.Problems) []string {
	var out []string
	for _, p := range ps.List {
		if p.Fatal {
			out = append(out, p.String())
		} else {
			out = append(out, "warning: "+p.String())
		}
	}
	return out
}

// badInventory are the problems of an error of Read.
func badInventory(t testing.TB, err error) layout.Problems {
	t.Helper()
	var bad *layout.BadInventoryError
	if !errors.As(err, &bad) || !errors.Is(err, layout.ErrBadInventory) {
		t.Fatalf("not a BadInventoryError: %v", err)
	}
	return bad.Problems
}

// sameView reports differences of what two replicas show, history aside.
func sameView(t testing.TB, a, b hostdb.View) {
	t.Helper()
	x, y := contents(t, mustExport(t, a)), contents(t, mustExport(t, b))
	if maps.Equal(x, y) {
		return
	}
	names := slices.Sorted(maps.Keys(x))
	for name := range y {
		if _, both := x[name]; !both {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if x[name] != y[name] {
			t.Errorf("%s differs:\n%s\nand\n%s", name, indent(x[name]), indent(y[name]))
		}
	}
}

func indent(text string) string { return "\t" + strings.ReplaceAll(text, "\n", "\n\t") }
