package badgerdb

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

// refusedStatus is the exit status of useChild after an error: neither of a panic, nor of log.Fatal.
const refusedStatus = 3

// useChild opens a directory that may be damaged, reads it all, writes and closes.
func useChild(dir string) error {
	err := func() error {
		db, err := open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, smallMemTable)
		if err != nil {
			return err
		}
		n := 0
		err = db.Scan(nil, nil, func(k, _ []byte) error { n++; _, _, err := db.Get(k); return err })
		if err == nil && n != filledKeys {
			err = fmt.Errorf("%w: %d keys", errLost, n)
		}
		err = errors.Join(err, db.Commit([]hostdb.Put{{Key: []byte("new"), Value: []byte("1")}}))
		return errors.Join(err, db.Close())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(refusedStatus)
	}
	return nil
}

var errLost = errors.New("keys are lost without an error")

// TestDamage damages files of a directory. A process that uses it must get a clear error, or everything: it must not
// die of it, nor go on with a part. Logs are left out but for their heads: there a torn tail is what a crash leaves.
func TestDamage(t *testing.T) {
	whole := filledDir(t)
	empty := func([]byte) []byte { return nil }
	zeros := func(b []byte) []byte { return make([]byte, len(b)) }
	half := func(b []byte) []byte { return b[:len(b)/2] }
	first := func(b []byte) []byte { return flip(b, 0, 8) }
	middle := func(b []byte) []byte { return flip(b, len(b)/2, len(b)/2+8) }
	last := func(b []byte) []byte { return flip(b, len(b)-8, len(b)) }
	shorter := func(b []byte) []byte { return b[:len(b)-1] }
	longer := func(b []byte) []byte { return append(b, "some more bytes"...) }
	var remove func([]byte) []byte

	for _, test := range []struct {
		pattern string // the first match is damaged
		name    string
		damage  func([]byte) []byte
		want    string // of the error; empty: there is none
	}{
		{"none", "nothing", remove, ""},
		{"*.sst", "empty", empty, "damaged"},
		{"*.sst", "zeros", zeros, "damaged"},
		{"*.sst", "half", half, "damaged"},
		{"*.sst", "first bytes", first, "damaged"},
		{"*.sst", "middle", middle, "damaged"},
		{"*.sst", "last bytes", last, "damaged"},
		{"*.sst", "shorter", shorter, "damaged"},
		{"*.sst", "longer", longer, "damaged"},
		{"*.sst", "removed", remove, "damaged"},
		{"MANIFEST", "empty", empty, "damaged"},
		{"MANIFEST", "zeros", zeros, "damaged"},
		{"MANIFEST", "middle", middle, "damaged"},
		{"MANIFEST", "longer", longer, "damaged"},
		{"MANIFEST", "removed", remove, "damaged"},
		{"KEYREGISTRY", "empty", empty, "damaged"},
		{"KEYREGISTRY", "zeros", zeros, "damaged"},
		{"KEYREGISTRY", "removed", remove, ""},
		{"DISCARD", "empty", empty, ""},
		{"DISCARD", "first bytes", first, ""},
		{"FORMAT", "empty", empty, "damaged"},
		{"FORMAT", "removed", remove, "another format"},
		{"*.mem", "first bytes", first, "damaged"},
		{"*.mem", "empty", empty, "lost"}, // only a power cut before anything was acknowledged leaves it so
		{"*.vlog", "empty", empty, ""},
		{"*.vlog", "removed", remove, ""},
	} {
		t.Run(test.pattern+"/"+test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			copyDir(t, dir, whole)
			damageFile(t, dir, test.pattern, test.damage)
			var stderr strings.Builder
			cmd := childCommand(t, "use", dir)
			cmd.Stderr = &stderr
			err := cmd.Run()
			text := stderr.String()
			if err != nil && cmd.ProcessState.ExitCode() != refusedStatus {
				t.Fatalf("the process died: %v\n%s", err, text[:min(len(text), 2000)])
			}
			if !strings.Contains(text, test.want) || test.want == "" && text != "" {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

func damageFile(t *testing.T, dir, pattern string, damage func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if pattern == "none" {
		return
	}
	if len(files) == 0 {
		t.Fatalf("there is no %s", pattern)
	}
	if damage == nil {
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], damage(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(b []byte, from, to int) []byte {
	for i := max(from, 0); i < min(to, len(b)); i++ {
		b[i] ^= 0xff
	}
	return b
}

const filledKeys = 101

// filledDir has tables, and a log with a key that no table has.
func filledDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db, err := open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		value := fmt.Appendf(nil, "%020000d", i)
		if err := db.Commit([]hostdb.Put{{Key: fmt.Appendf(nil, "k%05d", i), Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, smallMemTable); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Commit([]hostdb.Put{{Key: []byte("last"), Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	db.compactor.close()     // else it may delete tables during the copy
	copyDir(t, crashed, dir) // nothing goes on: the log is not full
	return crashed
}

// copyDir keeps holes.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		writeSparse(t, filepath.Join(to, e.Name()), b)
	}
}

func writeSparse(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	const block = 64 << 10
	for off := 0; off < len(b); off += block {
		part := b[off:min(off+block, len(b))]
		if strings.Trim(string(part), "\x00") == "" {
			continue
		}
		if _, err := f.WriteAt(part, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
}
