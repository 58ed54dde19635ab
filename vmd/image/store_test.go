package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// content is n bytes that only seed decides.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// rawImage is an entry for a raw disk with these bytes.
func rawImage(name string, b []byte, url string) Image {
	return Image{Name: name, Format: Raw, Disk: File{SHA256: sum(b), Size: int64(len(b)), URL: url}, VirtualSize: int64(len(b))}
}

func openStore(t *testing.T, change func(*Config)) *Store {
	t.Helper()
	cfg := Config{
		Dir: filepath.Join(t.TempDir(), "images"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		MinFree: -1, Retry: time.Millisecond, Stall: 10 * time.Second, AllowLocal: true,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func checkFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes with %s, want %d with %s", path, len(got), sum(got), len(want), sum(want))
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o644 {
		t.Errorf("%s has mode %v: the emulator must be able to read it", path, fi.Mode())
	}
}

func TestPut(t *testing.T) {
	s := openStore(t, nil)
	b := content(1, 300_000)
	var last int64
	taken, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: Raw, Progress: func(done, _ int64) { last = done }})
	if err != nil {
		t.Fatal(err)
	}
	if taken.SHA256 != sum(b) || taken.Size != int64(len(b)) || taken.VirtualSize != int64(len(b)) || last != taken.Size {
		t.Fatalf("took %+v, progress %d", taken, last)
	}
	files, err := s.Ensure(t.Context(), rawImage("x", b, ""))
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, files.Disk, b)
	if here := s.Here(map[string]Image{"x": rawImage("x", b, ""), "y": rawImage("y", content(2, 5), "")}); len(here) != 1 || here["x"] != sum(b) {
		t.Errorf("here are %v", here)
	}
	if fi, err := os.Stat(s.dir); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("the directory has mode %v, %v; want 0711", fi.Mode(), err)
	}
}

func TestPutRefuses(t *testing.T) {
	b := content(3, 5000)
	for _, c := range []struct {
		name string
		r    io.Reader
		in   Incoming
		want error
		text string
	}{
		{"checksum", bytes.NewReader(b), Incoming{Format: Raw, SHA256: sum([]byte("other"))}, ErrChecksum, "expected " + sum([]byte("other")) + ", got " + sum(b)},
		{"no checksum", bytes.NewReader(b), Incoming{Format: Raw, SHA256: "abc"}, ErrBadImage, "64"},
		{"short", bytes.NewReader(b), Incoming{Format: Raw, Size: 6000}, ErrChecksum, "5000 of 6000 bytes"},
		{"long", bytes.NewReader(b), Incoming{Format: Raw, Size: 4000}, ErrChecksum, "more than the 4000"},
		{"empty", bytes.NewReader(nil), Incoming{Format: Raw}, ErrBadImage, "empty"},
		{"not qcow2", bytes.NewReader(b), Incoming{Format: QCOW2}, ErrBadImage, "--format raw"},
		{"gzip", strings.NewReader("\x1f\x8b something"), Incoming{Format: Raw}, ErrBadImage, "gzip"},
		{"qcow2 as raw", strings.NewReader("QFI\xfb something"), Incoming{Format: Raw}, ErrBadImage, "--format qcow2"},
		{"no format", bytes.NewReader(b), Incoming{Format: "vmdk"}, ErrBadImage, "qcow2, raw or kernel"},
		{"broken off", io.MultiReader(bytes.NewReader(b), &brokenReader{}), Incoming{Format: Raw}, errBroken, "read the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, nil)
			_, err := s.Put(t.Context(), c.r, c.in)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want %v with %q", err, c.want, c.text)
			}
			if list, _ := os.ReadDir(s.dir); len(list) != 0 {
				t.Errorf("%v is left", list)
			}
		})
	}
}

var errBroken = errors.New("the line is cut")

type brokenReader struct{}

func (*brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestStoreOpensAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	b := content(4, 100_000)
	s := openStore(t, func(c *Config) { c.Dir = dir })
	if _, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: Raw}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new-123.tmp"), b, 0o600); err != nil { // what a killed agent leaves
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, func(c *Config) { c.Dir = dir })
	if _, err := os.Stat(filepath.Join(dir, "new-123.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an unfinished upload is kept: %v", err)
	}
	img := rawImage("x", b, "")
	if !s.Has(img) {
		t.Fatal("a verified file is not known after a restart")
	}
	// A file that somebody copied there by hand, or whose note is lost, is verified and taken.
	if err := os.Remove(s.path(sum(b)) + noteSuffix); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, func(c *Config) { c.Dir = dir })
	if s.Has(img) {
		t.Fatal("a file that nobody verified is trusted")
	}
	if _, err := s.Ensure(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if !s.Has(img) {
		t.Fatal("a file that was verified is not trusted")
	}
}

func TestChangedFileIsFetchedAgain(t *testing.T) {
	b := content(5, 100_000)
	img := rawImage("x", b, "")
	p := newFakePeers(map[string][]byte{"a": b})
	s := openStore(t, func(c *Config) { c.Peers = p })
	files, err := s.Ensure(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(b)
	bad[50_000] ^= 1
	if err := os.WriteFile(files.Disk, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if s.Has(img) {
		t.Fatal("a file that changed is trusted")
	}
	if err := s.Verify(t.Context(), img, nil); !errors.Is(err, ErrChecksum) {
		t.Fatalf("verify says %v", err)
	}
	if files, err = s.Ensure(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	checkFile(t, files.Disk, b)
	if err := s.Verify(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), rawImage("y", content(6, 9), ""), nil); !errors.Is(err, ErrNotHere) {
		t.Fatalf("verify of what is not here says %v", err)
	}
}

// TestVerifyForOthers: another node has an image read through, asks until it is over, and hears how far it is.
func TestVerifyForOthers(t *testing.T) {
	b := content(8, 1<<20)
	img := rawImage("x", b, "")
	s := openStore(t, nil)
	ask := func(run string, img Image) VerifyAnswer {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if a := s.checkFor(t.Context(), run, img, 10*time.Millisecond); a.Good || a.Missing || a.Failed != "" {
				return a
			}
		}
		t.Fatal("it does not end")
		return VerifyAnswer{}
	}
	if a := ask("0", img); !a.Missing {
		t.Errorf("of what is not here: %+v", a)
	}
	if _, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: Raw}); err != nil {
		t.Fatal(err)
	}
	if a := ask("1", img); !a.Good || a.Done != img.Size() || a.Total != img.Size() {
		t.Errorf("%+v", a)
	}
	path := s.path(sum(b))
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(b)
	bad[700_000] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	if !s.Has(img) {
		t.Error("it does not look as before: then reading it through shows nothing")
	}
	if a := ask("2", img); !strings.Contains(a.Failed, path) || !strings.Contains(a.Failed, "wrong checksum") {
		t.Errorf("%+v", a)
	}
	if s.Has(img) {
		t.Error("a damaged file is trusted")
	}
	for i := range maxChecks {
		s.checkFor(t.Context(), fmt.Sprint("many", i), img, 0)
	}
	if a := s.checkFor(t.Context(), "more", img, time.Second); !strings.Contains(a.Failed, "already") {
		t.Errorf("%+v", a)
	}
}

func TestOneFetchAtATime(t *testing.T) {
	b := content(7, 1<<20)
	img := rawImage("x", b, "")
	p := newFakePeers(map[string][]byte{"a": b})
	hold := make(chan struct{})
	begun := make(chan struct{})
	var once sync.Once
	p.before = func(string, ReadRequest) error {
		once.Do(func() { close(begun) })
		<-hold
		return nil
	}
	s := openStore(t, func(c *Config) { c.Peers = p })
	errs := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := s.Ensure(t.Context(), img)
			errs <- err
		}()
	}
	<-begun
	if list := s.Progress(); len(list) != 1 || list[0].Image != "x" || list[0].Total != int64(len(b)) || list[0].From != "node a" || list[0].Err != nil {
		t.Errorf("progress is %+v", list)
	}
	// One that gives up does not end it for the others.
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if _, err := s.Ensure(gone, img); !errors.Is(err, errBroken) {
		t.Errorf("who gave up hears %v", err)
	}
	close(hold)
	for range 10 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n := p.reads["a"]; n != 1 {
		t.Errorf("%d pieces were read; want 1", n)
	}
	if list := s.Progress(); len(list) != 0 {
		t.Errorf("progress at the end is %+v", list)
	}
}

func TestFetchEndsWhenNobodyWaits(t *testing.T) {
	b := content(8, MaxPiece+100)
	img := rawImage("x", b, "")
	p := newFakePeers(map[string][]byte{"a": b})
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan struct{})
	p.before = func(_ string, q ReadRequest) error {
		if q.Offset > 0 {
			select {
			case <-second: // it was abandoned before: this is the one that resumes
				return nil
			default:
			}
			cancel()
			<-p.ended // the call ends with its context
			return context.Canceled
		}
		return nil
	}
	s := openStore(t, func(c *Config) { c.Peers = p })
	if _, err := s.Ensure(ctx, img); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(second)
	if _, err := s.Ensure(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if got := p.offsets["a"]; fmt.Sprint(got[len(got)-1]) != fmt.Sprint(MaxPiece) || got[0] != 0 || len(got) < 3 {
		t.Errorf("it was read at %v; want a second fetch that begins where the first ended", got)
	}
	for _, at := range p.offsets["a"][1:] {
		if at == 0 {
			t.Errorf("it was read at %v: the second fetch began anew", p.offsets["a"])
		}
	}
}

func TestKernelImage(t *testing.T) {
	k, i := content(9, 50_000), content(10, 70_000)
	img := Image{Name: "k", Format: Kernel, Kernel: File{SHA256: sum(k), Size: int64(len(k))}, Initrd: File{SHA256: sum(i), Size: int64(len(i))}}
	p := newFakePeers(map[string][]byte{"a": k})
	p.data["a"][sum(i)] = i
	s := openStore(t, func(c *Config) { c.Peers = p })
	files, err := s.Ensure(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, files.Kernel, k)
	checkFile(t, files.Initrd, i)
	if files.Disk != "" || s.Here(map[string]Image{"k": img})["k"] != img.ID() {
		t.Errorf("files are %+v", files)
	}
}

func TestClosedStore(t *testing.T) {
	s := openStore(t, nil)
	s.Close()
	if _, err := s.Ensure(t.Context(), rawImage("x", content(11, 9), "")); !errors.Is(err, ErrClosed) {
		t.Errorf("ensure says %v", err)
	}
	if _, err := s.Put(t.Context(), strings.NewReader("x"), Incoming{Format: Raw}); !errors.Is(err, ErrClosed) {
		t.Errorf("put says %v", err)
	}
}

func TestPrune(t *testing.T) {
	s := openStore(t, nil)
	now := time.Now()
	for n := range 4 {
		b := content(uint64(20+n), 1000)
		if _, err := s.Put(t.Context(), bytes.NewReader(b), Incoming{Format: Raw}); err != nil {
			t.Fatal(err)
		}
		if n == 2 { // known as an image that the catalogue has lost, and a host still wants
			if _, err := s.Ensure(t.Context(), rawImage("lost", b, "")); err != nil {
				t.Fatal(err)
			}
		}
		if n < 3 {
			old := now.Add(-2 * Grace)
			if err := os.Chtimes(s.path(sum(b)), old, old); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), rawImage("", b, ""), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := now.Add(-2 * partKeep)
	stale := s.path(sum([]byte("stale"))) + partSuffix
	if err := os.WriteFile(stale, []byte("rest"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	gone, err := s.Prune(Use{
		Catalogue: map[string]Image{"x": rawImage("x", content(20, 1000), "")},
		Images:    []string{"lost"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(gone) != 1 || gone[0].Name != sum(content(21, 1000)) {
		t.Errorf("%v is gone", gone)
	}
	list, _ := os.ReadDir(s.dir)
	for _, e := range list {
		if strings.HasPrefix(e.Name(), sum(content(21, 1000))) || strings.HasSuffix(e.Name(), partSuffix) {
			t.Errorf("%s is left", e.Name())
		}
	}
	if len(list) != 6 { // three files and their notes
		t.Errorf("%v is left", list)
	}
}
