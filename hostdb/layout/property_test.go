package layout_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// inventories draws directories: names with odd characters, documents of any shape, lists with comments, dangling
// names, duplicates and cycles, access lists.
func inventories() *rapid.Generator[fstest.MapFS] {
	name := rapid.StringMatching(`[a-cA-C~é0][a-c.\-_ ~]{0,3}[a-c0]`)
	scalar := rapid.SampledFrom([]string{"0755", "yes", "~", "1e3", "2024-01-01", "'0755'", `"a\tb"`, "text", "a b", "''", "00:11:22:33:44:55", "1.10", `"\u0085"`, "'# x'"})
	data := rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		if rapid.Bool().Draw(t, "dashes") {
			b.WriteString("--- \n")
		}
		switch rapid.IntRange(0, 4).Draw(t, "shape") {
		case 0:
			return ""
		case 1:
			return "--- " + scalar.Draw(t, "scalar") + "\n"
		}
		for i := range rapid.IntRange(1, 4).Draw(t, "keys") {
			switch rapid.IntRange(0, 3).Draw(t, "value") {
			case 0:
				fmt.Fprintf(&b, "k%d: {n: %s, m: []}\n", i, scalar.Draw(t, "scalar"))
			case 1:
				fmt.Fprintf(&b, "k%d: [%s, {x: %s}]\n", i, scalar.Draw(t, "scalar"), scalar.Draw(t, "scalar"))
			default:
				fmt.Fprintf(&b, "k%d: %s\n", i, scalar.Draw(t, "scalar"))
			}
		}
		return b.String()
	})
	return rapid.Custom(func(t *rapid.T) fstest.MapFS {
		fsys := fstest.MapFS{}
		hosts := rapid.SliceOfNDistinct(name, 0, 6, rapid.ID[string]).Draw(t, "hosts")
		for _, ns := range []string{"hosts", "tags", "extra"} {
			keys := hosts
			if ns != "hosts" {
				keys = rapid.SliceOfNDistinct(name, 1, 6, rapid.ID[string]).Draw(t, ns)
			}
			line := rapid.Custom(func(t *rapid.T) string {
				switch rapid.IntRange(0, 5).Draw(t, "line") {
				case 0:
					return rapid.SampledFrom([]string{"", "# comment", "   ", "#"}).Draw(t, "text")
				case 1, 2, 3:
					if len(keys) > 0 {
						return "@" + rapid.SampledFrom(keys).Draw(t, "key")
					}
				case 4:
					return name.Draw(t, "any")
				}
				if len(hosts) == 0 {
					return ""
				}
				return " " + rapid.SampledFrom(hosts).Draw(t, "host")
			})
			for _, key := range keys {
				fsys[ns+"/"+key] = &fstest.MapFile{Data: []byte(data.Draw(t, "data"))}
				if rapid.Bool().Draw(t, "listed") {
					sep := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "break")
					text := strings.Join(rapid.SliceOfN(line, 1, 6).Draw(t, "list"), sep)
					fsys[ns+"/.members/"+key] = &fstest.MapFile{Data: []byte(text)}
				}
				if rapid.Bool().Draw(t, "permitted") {
					fsys[ns+"/.perms/"+key] = &fstest.MapFile{Data: []byte("ops: {data: RW, data/DNS: RO}\n")}
				}
			}
		}
		return fsys
	})
}

// keepAll reads what can be read of a directory.
func keepAll(t *rapid.T, fsys fstest.MapFS, into hostdb.View) *layout.Inventory {
	inv, err := layout.Read(context.Background(), fsys, layout.Options{KeepGoing: true, Into: into})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// Whatever a directory holds, what was read of it is imported without an error, importing it again changes nothing,
// and the export of one store imports into another that then shows the same.
func TestImportAndExportAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := openStore(t, nil)
		for range rapid.IntRange(1, 3).Draw(rt, "imports") { // later ones meet what earlier ones left
			dir := inventories().Draw(rt, "directory")
			inv := keepAll(rt, dir, first.View())
			if _, err := layout.Import(context.Background(), first, inv, importer, nil); err != nil {
				rt.Fatalf("import: %v", err)
			}
			again := keepAll(rt, dir, first.View())
			r, err := layout.Import(context.Background(), first, again, importer, nil)
			if err != nil || r.Operations != 0 {
				rt.Fatalf("the second import made %d operations: %v", r.Operations, err)
			}
		}
		out := mustExport(t, first.View())
		inv, err := layout.Read(context.Background(), out, layout.Options{})
		if err != nil || inv.Problems.Total != 0 {
			rt.Fatalf("the export has problems: %v %q", err, texts(inv.Problems))
		}
		second := openStore(t, nil)
		if _, err := layout.Import(context.Background(), second, inv, importer, nil); err != nil {
			rt.Fatal(err)
		}
		a, b := contents(t, out), contents(t, mustExport(t, second.View()))
		for name, text := range a {
			if b[name] != text {
				rt.Errorf("%s was %q, is %q", name, text, b[name])
			}
		}
		if len(a) != len(b) {
			rt.Errorf("%d files were, %d are", len(a), len(b))
		}
		if v, w := first.View(), second.View(); !slices.Equal(v.Namespaces(), w.Namespaces()) {
			rt.Errorf("namespaces %q, then %q", v.Namespaces(), w.Namespaces())
		}
	})
}
