package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// qemuImg runs the real qemu-img in a directory.
func qemuImg(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("qemu-img", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRealImages reads what qemu-img makes.
func TestRealImages(t *testing.T) {
	for _, c := range []struct {
		name string
		make [][]string // x is the image
		want string     // "" = it is taken
		size int64
	}{
		{name: "version 3", make: [][]string{{"create", "-f", "qcow2", "x", "1G"}}, size: 1 << 30},
		{name: "version 2", make: [][]string{{"create", "-f", "qcow2", "-o", "compat=0.10", "x", "10M"}}, size: 10 << 20},
		{name: "small clusters", make: [][]string{{"create", "-f", "qcow2", "-o", "cluster_size=512", "x", "100M"}}, size: 100 << 20},
		{name: "large clusters", make: [][]string{{"create", "-f", "qcow2", "-o", "cluster_size=2M", "x", "1T"}}, size: 1 << 40},
		{name: "extended entries", make: [][]string{{"create", "-f", "qcow2", "-o", "extended_l2=on", "x", "7G"}}, size: 7 << 30},
		{name: "zstd", make: [][]string{{"create", "-f", "qcow2", "-o", "compression_type=zstd", "x", "1G"}}, size: 1 << 30},
		{name: "wide refcounts", make: [][]string{{"create", "-f", "qcow2", "-o", "refcount_bits=64,lazy_refcounts=on", "x", "1G"}}, size: 1 << 30},
		{name: "preallocated", make: [][]string{{"create", "-f", "qcow2", "-o", "preallocation=metadata", "x", "64M"}}, size: 64 << 20},
		{name: "snapshot", make: [][]string{{"create", "-f", "qcow2", "x", "64M"}, {"snapshot", "-c", "one", "x"}}, size: 64 << 20},
		{name: "compressed copy", make: [][]string{{"create", "-f", "raw", "r", "8M"}, {"convert", "-c", "-f", "raw", "-O", "qcow2", "r", "x"}}, size: 8 << 20},
		{name: "backing file", make: [][]string{{"create", "-f", "raw", "b", "8M"}, {"create", "-f", "qcow2", "-b", "b", "-F", "raw", "x"}}, want: "backing file"},
		{name: "backing file of the box", make: [][]string{{"create", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "x", "1M"}}, want: "backing file"},
		{name: "external data", make: [][]string{{"create", "-f", "qcow2", "-o", "data_file=d,data_file_raw=on", "x", "8M"}}, want: "another file"},
		{name: "LUKS", make: [][]string{{"create", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "x", "8M"}}, want: "encrypted"},
		{name: "raw", make: [][]string{{"create", "-f", "raw", "x", "8M"}}, want: "say --format raw"},
		{name: "old", make: [][]string{{"create", "-f", "qcow", "x", "8M"}}, want: "version 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, args := range c.make {
				qemuImg(t, dir, args...)
			}
			f, err := os.Open(filepath.Join(dir, "x"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fi, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			h, err := ReadQCOW2(f, fi.Size())
			if c.want != "" {
				if !errors.Is(err, ErrBadImage) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
				return
			}
			if err != nil || h.VirtualSize != c.size {
				t.Fatalf("got %+v, %v; want %d bytes", h, err, c.size)
			}
			// Cut off behind its header, it is damaged.
			if _, err := ReadQCOW2(f, max(h.ClusterSize, 512)); !errors.Is(err, ErrBadImage) {
				t.Errorf("cut off, it is taken: %v", err)
			}
		})
	}
}

// header is a qcow2 of version 3 with a disk of 1 GiB, as qemu-img makes it.
func header(change func(h []byte)) []byte {
	b := make([]byte, 6<<16)
	be := binary.BigEndian
	be.PutUint32(b[0:], qcowMagic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 16)    // cluster bits
	be.PutUint64(b[24:], 1<<30) // virtual size
	be.PutUint32(b[36:], 2)     // entries of the first level
	be.PutUint64(b[40:], 3<<16) // where it is
	be.PutUint64(b[48:], 1<<16) // refcount table
	be.PutUint32(b[56:], 1)     // its clusters
	be.PutUint32(b[96:], 4)     // refcount order
	be.PutUint32(b[100:], 104)  // header length
	if change != nil {
		change(b)
	}
	return b
}

func TestHostileHeaders(t *testing.T) {
	put32 := func(at int, v uint32) func([]byte) {
		return func(h []byte) { binary.BigEndian.PutUint32(h[at:], v) }
	}
	put64 := func(at int, v uint64) func([]byte) {
		return func(h []byte) { binary.BigEndian.PutUint64(h[at:], v) }
	}
	extension := func(kind, length uint32) func([]byte) {
		return func(h []byte) { put32(104, kind)(h); put32(108, length)(h) }
	}
	for _, c := range []struct {
		name   string
		change func([]byte)
		want   string // "" = it is taken
	}{
		{"good", nil, ""},
		{"magic", put32(0, 1), "does not begin"},
		{"version 4", put32(4, 4), "version 4"},
		{"backing file", put64(8, 200), "backing file"},
		{"length of a backing file alone", put32(16, 8), "backing file"},
		{"AES", put32(32, 1), "encrypted"},
		{"LUKS", put32(32, 2), "encrypted"},
		{"tiny clusters", put32(20, 8), "cluster bits 8"},
		{"giant clusters", put32(20, 63), "cluster bits 63"},
		{"no disk", put64(24, 0), "virtual size 0"},
		{"giant disk", put64(24, 1<<63), "virtual size"},
		{"disk beyond its table", put64(24, 1<<40), "the virtual size needs 2048"},
		{"giant table", put32(36, 0xffffffff), "qemu takes"},
		{"table outside", put64(40, 1<<40), "not within the file"},
		{"table at no cluster", put64(40, 12345), "not within the file"},
		{"table in the header", put64(40, 0), "not within the file"},
		{"table beyond int64", put64(40, 1<<63), "not within the file"},
		{"no refcounts", put32(56, 0), "refcount table has 0"},
		{"giant refcounts", put32(56, 0xffffffff), "refcount table"},
		{"refcounts outside", put64(48, 1<<62), "not within the file"},
		{"refcount order", put32(96, 7), "refcount order 7"},
		{"snapshots", put32(60, 1<<20), "snapshots"},
		{"snapshots outside", put32(60, 60000), "snapshot table"},
		{"header length", put32(100, 1<<20), "header length"},
		{"short header length", put32(100, 72), "header length"},
		{"external data", put64(72, qcowFeatExternal), "another file"},
		{"corrupt", put64(72, qcowFeatCorrupt), "qemu-img check"},
		{"dirty", put64(72, qcowFeatDirty), "in use"},
		{"features", put64(72, 1<<40), "features"},
		{"name of a data file", extension(qcowExtDataFile, 8), "names a file for its data"},
		{"format of a backing file", extension(qcowExtBacking, 8), "backing file"},
		{"key", extension(qcowExtCrypto, 16), "encrypted"},
		{"extension beyond the cluster", extension(0x6803f857, 0xffffffff), "does not end"},
		{"harmless extension", extension(0x6803f857, 48), ""},
		{"data file behind a harmless extension", func(h []byte) {
			extension(0x6803f857, 48)(h)
			put32(104+8+48, qcowExtDataFile)(h)
		}, "names a file for its data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := header(c.change)
			_, err := ReadQCOW2(bytes.NewReader(b), int64(len(b)))
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrBadImage) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, n := range []int{0, 1, 71, 72, 103} {
		if _, err := ReadQCOW2(bytes.NewReader(header(nil)[:n]), int64(n)); !errors.Is(err, ErrBadImage) {
			t.Errorf("%d bytes are taken: %v", n, err)
		}
	}
}

// FuzzReadQCOW2: whatever a file says, it is refused or within bounds, and names nothing.
func FuzzReadQCOW2(f *testing.F) {
	f.Add(header(nil)[:512], int64(1<<20))
	f.Add(header(func(h []byte) { binary.BigEndian.PutUint32(h[104:], qcowExtDataFile) })[:512], int64(1<<20))
	f.Add(header(func(h []byte) { binary.BigEndian.PutUint32(h[4:], 2) })[:512], int64(1<<20))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		// The rest of the file is empty, as in one with holes.
		b := append(bytes.Clone(head[:min(len(head), 1<<16)]), make([]byte, 1<<16)...)
		size = max(0, min(size, int64(len(b))))
		h, err := ReadQCOW2(bytes.NewReader(b), size)
		if err != nil {
			if !errors.Is(err, ErrBadImage) {
				t.Fatalf("%v is no ErrBadImage", err)
			}
			return
		}
		if h.VirtualSize <= 0 || h.VirtualSize > MaxSize || h.ClusterSize > size && size > 2<<20 {
			t.Fatalf("taken: %+v of %d bytes", h, size)
		}
		if binary.BigEndian.Uint64(b[8:]) != 0 || binary.BigEndian.Uint32(b[32:]) != 0 {
			t.Fatal("a backing file or a key is taken")
		}
	})
}

// TestHostileImageIsNotKept: neither an upload nor a fetch leaves one here.
func TestHostileImageIsNotKept(t *testing.T) {
	dir := t.TempDir()
	qemuImg(t, dir, "create", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "x", "1M")
	b, err := os.ReadFile(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, func(c *Config) { c.Peers = newFakePeers(map[string][]byte{"a": b}) })
	if _, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: QCOW2}); !errors.Is(err, ErrBadImage) {
		t.Errorf("put says %v", err)
	}
	img := Image{Name: "x", Format: QCOW2, Disk: File{SHA256: sum(b), Size: int64(len(b))}, VirtualSize: 1 << 20}
	if _, err := s.Ensure(t.Context(), img); !errors.Is(err, ErrBadImage) || !strings.Contains(err.Error(), "backing file") {
		t.Errorf("ensure says %v", err)
	}
	if list, _ := os.ReadDir(s.dir); len(list) != 0 {
		t.Errorf("%v is left", list)
	}
	// One that came as raw is not taken for qcow2 later.
	raw := rawImage("y", b, "")
	if _, err := s.Ensure(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ensure(t.Context(), img); !errors.Is(err, ErrBadImage) {
		t.Errorf("ensure of what is here says %v", err)
	}
}

func TestBaseFiles(t *testing.T) {
	dir := t.TempDir()
	qemuImg(t, dir, "create", "-f", "qcow2", "alone.qcow2", "1M")
	qemuImg(t, dir, "create", "-f", "qcow2", "-u", "-b", "/images/"+sha1, "-F", "qcow2", "grown.qcow2", "1M")
	if got, err := BaseFiles(dir); err != nil || len(got) != 1 || got[0] != "/images/"+sha1 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := BaseFiles(filepath.Join(dir, "none")); err != nil || got != nil {
		t.Errorf("no directory: %v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "odd.qcow2"), []byte("not one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := BaseFiles(dir); err == nil {
		t.Errorf("a disk that cannot be read: %v", got)
	}
}
