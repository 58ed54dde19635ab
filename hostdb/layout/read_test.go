package layout_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// Who named the wrong directory is not told to leave out what is wrong: nothing would be left.
func TestReadNoNamespace(t *testing.T) {
	for name, want := range map[string]bool{"README.md": true, ".git/config": true, "hosts/bad": false, "@x/y": false} {
		_, err := layout.Read(t.Context(), fstest.MapFS{name: {Data: []byte("{")}}, layout.Options{})
		var bad *layout.BadInventoryError
		if !errors.As(err, &bad) {
			t.Fatalf("%s: %v", name, err)
		}
		if got := bad.Problems.NoNamespace(); got != want || strings.Contains(err.Error(), "--keep-going") == want {
			t.Errorf("%s: no namespace %v: %v", name, got, err)
		}
	}
}

func TestReadNamesEachProblem(t *testing.T) {
	long := strings.Repeat("n", 254)
	cases := []struct {
		name  string
		files map[string]string
		want  []string // all problems
		keys  string   // what is read with KeepGoing
	}{
		{"no namespace", map[string]string{"README.md": "x", ".git/config": "x"},
			[]string{".: no namespace here: the directory to import is the one that holds hosts and tags"}, ""},
		{"a directory too high", map[string]string{"namespaces/hosts/a": ""},
			[]string{"namespaces/hosts: a directory stands where a file is expected; the directory to import is the one that holds hosts and tags"}, ""},
		{"yaml", map[string]string{"hosts/a": "x: 1\ny: [1,\n", "hosts/b": "z: 1\n"},
			[]string{"hosts/a:3: invalid YAML: did not find expected node content"}, "hosts/b"},
		{"twice a key", map[string]string{"hosts/a": "x: 1\ny: 2\nx: 3\n"},
			[]string{`hosts/a:3: invalid YAML: key "x" stands already on line 1`}, ""},
		{"two documents", map[string]string{"hosts/a": "--- 1\n--- 2\n"},
			[]string{"hosts/a:2: invalid YAML: a second document begins; one is expected"}, ""},
		{"control character", map[string]string{"hosts/a": "x: 1\ny: \x01\n"},
			[]string{"hosts/a:2: invalid YAML: control characters are not allowed (value: 1)"}, ""},
		{"not UTF-8", map[string]string{"hosts/a": "x: 1\ny: \xff\n", "hosts/b": "", "hosts/.members/b": "# ok\n#\xe9\n", "hosts/.perms/b": "\xff"},
			[]string{"hosts/.members/b:2: the text is not UTF-8", "hosts/.perms/b:1: the text is not UTF-8", "hosts/a:2: the text is not UTF-8"}, "hosts/b"},
		{"too large", map[string]string{"hosts/a": strings.Repeat("#", hostdb.MaxData+1), "hosts/b": ""},
			[]string{"hosts/a: a file of 1048577 bytes: at most 1048576 are allowed"}, "hosts/b"},
		{"too large in canonical form", map[string]string{"hosts/a": strings.Repeat("{a: ", 60) + "[" + strings.Repeat("0,", 10_000) + "]" + strings.Repeat("}", 60)},
			[]string{"hosts/a: 1243720 bytes of data in canonical YAML: at most 1048576 are allowed"}, ""},
		{"too large by aliases", map[string]string{"hosts/a": "a: &a " + strings.Repeat("x", 4000) + "\nb: [" + strings.Repeat("*a ,", 300) + "]"},
			[]string{"hosts/a: 1205507 bytes of data in canonical YAML: at most 1048576 are allowed"}, ""},
		{"names", map[string]string{"hosts/" + long: "", "hosts/@a": "", "hosts/#a#": "", "hosts/a ": "", "hosts/ok": "", "@x/y": ""},
			[]string{`@x: name "@x" begins with @, which marks an inherited key in a member list`,
				`hosts/#a#: name "#a#" begins with #, which marks a comment in a member list`,
				`hosts/@a: name "@a" begins with @, which marks an inherited key in a member list`,
				`hosts/a : name "a " begins or ends with a blank`,
				"hosts/" + long + ": name of 254 bytes: at most 253 are allowed"}, "hosts/ok"},
		{"member names", map[string]string{"hosts/a": "", "tags/t": "", "tags/.members/t": "# c\n.a\n\na\n@@a\n"},
			[]string{`tags/.members/t:2: name ".a" begins with a dot`,
				`tags/.members/t:5: name "@a" begins with @, which marks an inherited key in a member list`}, "hosts/a tags/t[# c||a|]"},
		{"dangling", map[string]string{"hosts/a": "", "tags/t": "", "tags/u": "{", "tags/.members/t": "a\n# gone\nb\n@t2\n@u\na\n"},
			[]string{"tags/.members/t:3: b is no host: there is no hosts/b",
				"tags/.members/t:4: @t2 names no key: there is no tags/t2",
				"tags/.members/t:5: @u names no key: there is no tags/u that can be read",
				"warning: tags/.members/t:6: a stands already on line 1; the first counts",
				"tags/u:2: invalid YAML: did not find expected node content"}, "hosts/a tags/t[a|# gone|]"},
		{"cycles", map[string]string{"tags/a": "", "tags/b": "", "tags/c": "", "tags/self": "", "hosts/h": "",
			"tags/.members/a": "@b\n@c\n", "tags/.members/b": "@c\n", "tags/.members/c": "h\n\n@a\n", "tags/.members/self": "@self\n"},
			[]string{"tags/.members/c:3: @a makes a cycle: tags/c is reached from tags/a",
				"tags/.members/self:1: @self makes a cycle: tags/self is reached from tags/self"},
			"hosts/h tags/a[@b|@c|] tags/b[@c|] tags/c[h||] tags/self[]"},
		{"diamonds are no cycles", map[string]string{"tags/a": "", "tags/b": "", "tags/c": "", "tags/d": "",
			"tags/.members/a": "@b\n@c\n", "tags/.members/b": "@d\n", "tags/.members/c": "@d\n"}, nil,
			"tags/a[@b|@c|] tags/b[@d|] tags/c[@d|] tags/d"},
		{"line breaks", map[string]string{"hosts/a": "", "hosts/b": "", "tags/t": "", "tags/u": "",
			"tags/.members/t": "\ufeff a\r\n# c \r\nb", "tags/.members/u": "a\rb\u2028# x\v\n"}, nil,
			"hosts/a hosts/b tags/t[a|# c|b|] tags/u[a|b|# x||]"},
		{"orphans", map[string]string{"hosts/a": "", "hosts/.members/z": "\xff", "hosts/.perms/y": "{", "hosts/.perms/.default": "ops: {data: RW}"},
			[]string{"warning: hosts/.members/z: ignored: there is no key hosts/z", "warning: hosts/.perms/y: ignored: there is no key hosts/y"}, "hosts/a"},
		{"files of a bad key are no orphans", map[string]string{"hosts/a": "{", "hosts/.members/a": "", "hosts/.perms/a": ""},
			[]string{"hosts/a:2: invalid YAML: did not find expected node content"}, ""},
		{"access lists", map[string]string{"hosts/a": "", "hosts/b": "", "hosts/c": "", "hosts/d": "", "hosts/e": "",
			"hosts/.perms/a": "--- ops\n", "hosts/.perms/b": "- x\n", "hosts/.perms/c": "ops: RW\n", "hosts/.perms/d": "ops: {\n", "hosts/.perms/e": "--- ~\n"},
			[]string{"warning: hosts/.perms/a: ignored: an access list must be a mapping, for example {ops: {data: RW, members: RW}}",
				"warning: hosts/.perms/b: ignored: an access list must be a mapping, for example {ops: {data: RW, members: RW}}",
				"hosts/.perms/c: access list: ops must be a mapping of data, members or perms to RO or RW",
				"hosts/.perms/d:2: invalid YAML: did not find expected node content"}, "hosts/a hosts/b hosts/c hosts/d hosts/e"},
		{"tags/all", map[string]string{"hosts/a": "", "tags/all": "x: 1", "tags/.members/all": "a", "tags/t": "", "tags/.members/t": "@all"},
			[]string{"warning: tags/.members/all: ignored: the members of tags/all are all hosts that are not retired"}, "hosts/a tags/all tags/t[@all|]"},
		{"what is no part of it", map[string]string{"hosts/a": "", "hosts/.swp": "{", "hosts/.x/y": "{", ".git/HEAD": "{", "notes": "{", "hosts/.members/.a.swp": "\xff"}, nil, "hosts/a"},
		{"scalars", map[string]string{"hosts/a": "--- ~\n", "hosts/b": "", "hosts/c": "--- 0755\n", "hosts/d": "--- \na: 1\n"}, nil, "hosts/a hosts/b hosts/c hosts/d"},
		{"a file as .members", map[string]string{"hosts/a": "", "hosts/.members": "", "hosts/.perms/a/b": ""},
			[]string{"hosts/.members: a directory is expected here",
				"hosts/.perms/a: a directory stands where a file is expected; the directory to import is the one that holds hosts and tags"}, "hosts/a"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inv, err := layout.Read(context.Background(), files(c.files), layout.Options{KeepGoing: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := texts(inv.Problems); !slices.Equal(got, c.want) {
				t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if got := keyList(inv); got != c.keys {
				t.Errorf("read %q, want %q", got, c.keys)
			}
			fatal := slices.ContainsFunc(c.want, func(s string) bool { return !strings.HasPrefix(s, "warning: ") })
			inv, err = layout.Read(context.Background(), files(c.files), layout.Options{})
			switch {
			case !fatal && err != nil:
				t.Errorf("warnings made an error: %v", err)
			case fatal && (inv != nil || !slices.Equal(texts(badInventory(t, err)), c.want)):
				t.Errorf("without KeepGoing: %v, %v", inv, err)
			}
			// What is left can be imported.
			s := openStore(t, nil)
			if inv, err = layout.Read(context.Background(), files(c.files), layout.Options{KeepGoing: true}); err != nil {
				t.Fatal(err)
			}
			if _, err := layout.Import(context.Background(), s, inv, importer, nil); err != nil {
				t.Errorf("import of the rest: %v", err)
			}
		})
	}
}

// keyList is what was read: keys, with their raw lists where they have one.
func keyList(inv *layout.Inventory) string {
	var out []string
	for _, ns := range inv.Namespaces {
		for _, k := range ns.Keys {
			text := ns.Name + "/" + k.Name
			if k.HasMembers {
				raw := ""
				if len(k.Members) > 0 {
					raw = hostdb.FormatMembers(k.Members) + "\n"
				}
				text += "[" + strings.ReplaceAll(raw, "\n", "|") + "]"
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, " ")
}

func TestReadErrorIsBounded(t *testing.T) {
	fsys := files(nil)
	for i := range 15_000 {
		fsys[fmt.Sprintf("hosts/h%05d", i)] = &fstest.MapFile{Data: []byte("{")}
	}
	_, err := layout.Read(context.Background(), fsys, layout.Options{})
	ps := badInventory(t, err)
	if len(ps.List) != 10_000 || ps.Fatal != 15_000 || ps.Total != 15_000 {
		t.Errorf("%d listed of %d", len(ps.List), ps.Total)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 22 || !strings.HasPrefix(lines[0], "15000 problems; nothing was imported") || lines[21] != "  and 14980 more" {
		t.Errorf("the error has %d lines: %q ... %q", len(lines), lines[0], lines[len(lines)-1])
	}
}

func TestReadAgainstAStore(t *testing.T) {
	s := openStore(t, nil)
	mustImport(t, s, files(map[string]string{"hosts/old": "", "tags/x": "", "tags/y": "", "tags/d": "",
		"tags/.members/x": "@y", "tags/.members/y": "@d"}))
	// old, x and y are not in the directory, but there; d -> x -> y -> d is a cycle through what stays.
	dir := files(map[string]string{"hosts/new": "", "tags/d": "", "tags/.members/d": "old\nnew\n@x\n@y\n@gone\n"})
	inv := mustRead(t, dir, layout.Options{Into: s.View(), KeepGoing: true})
	want := []string{
		"tags/.members/d:3: @x makes a cycle: tags/d is reached from tags/x",
		"tags/.members/d:4: @y makes a cycle: tags/d is reached from tags/y",
		"tags/.members/d:5: @gone names no key: there is no tags/gone",
	}
	if got := texts(inv.Problems); !slices.Equal(got, want) {
		t.Errorf("problems %q", got)
	}
	if _, err := layout.Import(context.Background(), s, inv, importer, nil); err != nil {
		t.Error(err)
	}
	if got := s.View().RawMembers("tags", "d"); got != "old\nnew" {
		t.Errorf("members %q", got)
	}
}

func TestReadFollowsNoLinkOutside(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "inventory")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(top, "secret"), "secret: 1")
	write(filepath.Join(top, "away", "h"), "secret: 1")
	write(filepath.Join(dir, "hosts", "a"), "a: 1")
	write(filepath.Join(dir, "real", "b"), "b: 1")
	link("a", "hosts/same")
	link("../real/b", "hosts/near")
	link(filepath.Join(top, "secret"), "hosts/absolute")
	link("../../secret", "hosts/up")
	link("../door/h", "hosts/door")
	link("../../inventory/hosts/a", "hosts/round")
	link("missing", "hosts/nowhere")
	link("loop", "hosts/loop")
	link("../away", "door")
	link("real", "alias")
	const outside = ": a symbolic link leads outside the directory; it is not followed: put a copy in its place"
	want := []string{"door" + outside, "hosts/absolute" + outside, "hosts/door" + outside, "hosts/loop: symbolic links lead in a circle",
		"hosts/nowhere: a symbolic link leads to nothing", "hosts/round" + outside, "hosts/up" + outside}
	inv := mustRead(t, os.DirFS(dir), layout.Options{KeepGoing: true})
	if got := texts(inv.Problems); !slices.Equal(got, want) {
		t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := keyList(inv); got != "hosts/a hosts/near hosts/same alias/b real/b" {
		t.Errorf("read %q", got)
	}

	var stream strings.Builder
	ps, err := layout.WriteTar(&stream, os.DirFS(dir), true)
	if err != nil || !slices.Equal(texts(ps), want) {
		t.Errorf("WriteTar: %q, %v", texts(ps), err)
	}
	if strings.Contains(stream.String(), "secret") {
		t.Error("what is outside was packed")
	}
	unpacked, err := layout.ReadTar(strings.NewReader(stream.String()), layout.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if got := keyList(mustRead(t, unpacked, layout.Options{})); got != keyList(inv) {
		t.Errorf("unpacked %q", got)
	}
	stream.Reset()
	_, err = layout.WriteTar(&stream, os.DirFS(dir), false)
	if got := texts(badInventory(t, err)); !slices.Equal(got, want) {
		t.Errorf("WriteTar without keepGoing: %q", got)
	}
	if _, err := layout.ReadTar(strings.NewReader(stream.String()), layout.DefaultLimits()); !errors.Is(err, layout.ErrBadTar) {
		t.Errorf("an archive that was given up is read: %v", err)
	}
}

// deniedFS refuses to open one file. It stands for a file without permission, which root could read.
type deniedFS struct {
	fstest.MapFS
	name string
}

func (d deniedFS) Open(name string) (fs.File, error) {
	if name == d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.MapFS.Open(name)
}

func TestReadReportsWhatCannotBeOpened(t *testing.T) {
	fsys := files(map[string]string{"hosts/a": "", "hosts/b": ""})
	fsys["hosts/pipe"] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o644}
	inv := mustRead(t, deniedFS{fsys, "hosts/a"}, layout.Options{KeepGoing: true})
	want := []string{"hosts/a: cannot be read: permission denied", "hosts/pipe: not a regular file (p---------)"}
	if got := texts(inv.Problems); !slices.Equal(got, want) {
		t.Errorf("problems %q", got)
	}
	if got := keyList(inv); got != "hosts/b" {
		t.Errorf("read %q", got)
	}
}

func TestProblemHidesControlCharacters(t *testing.T) {
	p := layout.Problem{File: "hosts/\x1b[31m", Line: 2, Message: "m"}
	if got := p.String(); got != `"hosts/\x1b[31m":2: m` {
		t.Errorf("%q", got)
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := layout.Read(ctx, files(map[string]string{"hosts/a": ""}), layout.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
