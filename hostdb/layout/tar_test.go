package layout_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"hostmesh/hostdb/layout"
)

// pack makes an archive; every file in it has the same text.
func pack(t testing.TB, text string, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		body := text
		if h.Typeflag != tar.TypeReg && h.Typeflag != 0 {
			body = ""
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReadTarRefuses(t *testing.T) {
	limits := layout.Limits{Entries: 4, File: 8, Total: 64}
	cases := []struct {
		name    string
		headers []tar.Header
		text    string
		want    string
	}{
		{"absolute", []tar.Header{{Name: "/etc/passwd"}}, "", "is not allowed"},
		{"parent", []tar.Header{{Name: "hosts/../../x"}}, "", "is not allowed"},
		{"only parent", []tar.Header{{Name: "../x"}}, "", "is not allowed"},
		{"dots inside", []tar.Header{{Name: "hosts/./x"}}, "", "is not allowed"},
		{"not UTF-8", []tar.Header{{Name: "hosts/\xff"}}, "", "is not allowed"},
		{"symbolic link", []tar.Header{{Name: "hosts/a", Typeflag: tar.TypeSymlink, Linkname: "b"}}, "", "neither a file nor a directory"},
		{"hard link", []tar.Header{{Name: "hosts/a", Typeflag: tar.TypeLink, Linkname: "b"}}, "", "neither a file nor a directory"},
		{"pipe", []tar.Header{{Name: "hosts/a", Typeflag: tar.TypeFifo}}, "", "neither a file nor a directory"},
		{"device", []tar.Header{{Name: "hosts/a", Typeflag: tar.TypeBlock}}, "", "neither a file nor a directory"},
		{"twice", []tar.Header{{Name: "a/b"}, {Name: "a/b"}}, "", "stands twice"},
		{"file as directory", []tar.Header{{Name: "a"}, {Name: "a/b"}}, "", "as a file and as a directory"},
		{"directory as file", []tar.Header{{Name: "a/b"}, {Name: "a"}}, "", "as a file and as a directory"},
		{"the root as a file", []tar.Header{{Name: "."}}, "", "the root is a file"},
		{"file too large", []tar.Header{{Name: "a"}}, "123456789", "at most 8 are allowed"},
		{"all too large", []tar.Header{{Name: "a"}, {Name: "b"}, {Name: strings.Repeat("c", 70)}}, "", "more than 64 bytes in all"},
		{"skipped, but too large", []tar.Header{{Name: ".git/x"}}, "123456789", "at most 8 are allowed"},
		{"too many", []tar.Header{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}, "", "more than 4 entries"},
		{"too many directories", []tar.Header{{Name: "a/b/c/d/e"}, {Name: "x"}}, "", "more than 4 entries"},
		{"too deep", []tar.Header{{Name: "a/a/a/a/a/a/a/a/a"}}, "", "nested deeper"},
		{"long name", []tar.Header{{Name: strings.Repeat("n", 3000)}}, "", "a name of 3000 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fsys, err := layout.ReadTar(bytes.NewReader(pack(t, c.text, c.headers...)), limits)
			if !errors.Is(err, layout.ErrBadTar) || !strings.Contains(err.Error(), c.want) || fsys != nil {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestReadTarTakesWhatTarMakes(t *testing.T) {
	archive := pack(t, "x: 1\n",
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "f00"}},
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "./hosts/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./hosts/é" + strings.Repeat("n", 200)},
		tar.Header{Name: "./.git/HEAD"},
		tar.Header{Name: "./.git/", Typeflag: tar.TypeDir},
		tar.Header{Name: "README.md"},
	)
	fsys, err := layout.ReadTar(bytes.NewReader(archive), layout.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"hosts/é" + strings.Repeat("n", 200): "x: 1\n", "README.md": "x: 1\n"}
	if got := contents(t, fsys); !maps.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestReadTarRefusesAnyCut(t *testing.T) {
	var whole bytes.Buffer
	if _, err := layout.WriteTar(&whole, files(map[string]string{"hosts/a": "x: 1", "tags/t": "", "tags/.members/t": "a"}), false); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if _, err := layout.ReadTar(bytes.NewReader(whole.Bytes()[:n]), layout.DefaultLimits()); !errors.Is(err, layout.ErrBadTar) {
			t.Fatalf("the first %d of %d bytes are read: %v", n, whole.Len(), err)
		}
	}
	if _, err := layout.ReadTar(&whole, layout.DefaultLimits()); err != nil {
		t.Error(err)
	}
}

func TestWriteTarPacksTheLayoutOnly(t *testing.T) {
	dir := files(map[string]string{
		"README.md": "r", ".git/HEAD": "g", "hosts/a": "x: 1", "hosts/.swp": "s", "hosts/.cache/y": "c",
		"tags/t": "", "tags/.members/t": "a\n", "tags/.members/.swp": "s", "tags/.perms/t": "p", "tags/.perms/.default": "d", "tags/.perms/.swp": "s",
	})
	var stream bytes.Buffer
	if _, err := layout.WriteTar(&stream, dir, false); err != nil {
		t.Fatal(err)
	}
	fsys, err := layout.ReadTar(&stream, layout.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"hosts/a": "x: 1", "tags/t": "", "tags/.members/t": "a\n", "tags/.perms/t": "p", "tags/.perms/.default": "d"}
	if got := contents(t, fsys); !maps.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if err := fstest.TestFS(fsys, "hosts/a", "tags/t", "tags/.members/t", "tags/.perms/.default"); err != nil {
		t.Error(err)
	}
}

// failingWriter takes n bytes.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errors.New("peer went away")
	}
	return len(p), nil
}

func TestWriteTarEndsWithItsStream(t *testing.T) {
	dir := files(map[string]string{"hosts/a": "x: 1", "tags/t": ""})
	for n := 0; n < 3<<10; n += 512 {
		if _, err := layout.WriteTar(&failingWriter{n}, dir, false); err == nil || !strings.Contains(err.Error(), "peer went away") {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// A stream of anything makes an error or a directory that keeps the limits, and that Read survives.
func FuzzReadTar(f *testing.F) {
	f.Add(pack(f, "x: 1\n", tar.Header{Name: "./hosts/", Typeflag: tar.TypeDir}, tar.Header{Name: "hosts/a"}, tar.Header{Name: "tags/.members/t"}))
	f.Add(pack(f, "@t\n", tar.Header{Name: "tags/t"}, tar.Header{Name: "tags/.members/t"}, tar.Header{Name: "tags/.perms/.default"}))
	f.Add(pack(f, "", tar.Header{Name: "hosts/" + strings.Repeat("é", 90), Format: tar.FormatPAX}, tar.Header{Name: "../x"}))
	f.Add([]byte{})
	limits := layout.Limits{Entries: 20, File: 2 << 10, Total: 8 << 10}
	f.Fuzz(func(t *testing.T, stream []byte) {
		fuzzed(t, stream, limits)
		fuzzed(t, repaired(stream), limits)
	})
}

// repaired is a stream in which each block has the checksum of a header, past which no change made at random would get.
func repaired(stream []byte) []byte {
	stream = bytes.Clone(stream)
	for block := range slices.Chunk(stream, 512) {
		if len(block) < 512 || !slices.ContainsFunc(block, func(b byte) bool { return b != 0 }) {
			continue
		}
		sum := 8 * int(' ')
		for i, b := range block {
			if i < 148 || i >= 156 {
				sum += int(b)
			}
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
	return stream
}

func fuzzed(t *testing.T, stream []byte, limits layout.Limits) {
	fsys, err := layout.ReadTar(bytes.NewReader(stream), limits)
	if err != nil {
		if !errors.Is(err, layout.ErrBadTar) || fsys != nil {
			t.Fatalf("%v", err)
		}
		return
	}
	n, total := 0, int64(0)
	err = fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !fs.ValidPath(name) {
			t.Fatalf("%q: %v", name, err)
		}
		n++
		info, err := e.Info()
		if err == nil && !e.IsDir() {
			total += info.Size()
		}
		return err
	})
	// One name may bring some directories more before the next is refused.
	if err != nil || n > limits.Entries+10 || total > limits.Total {
		t.Fatalf("%d entries, %d bytes: %v", n, total, err)
	}
	inv, err := layout.Read(context.Background(), fsys, layout.Options{KeepGoing: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Import(context.Background(), openStore(t, nil), inv, importer, nil); err != nil {
		t.Fatalf("import of what was read: %v", err)
	}
}
