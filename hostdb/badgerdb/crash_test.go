package badgerdb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"hostmesh/hostdb"
)

// numbered is a batch that tells whether it is whole: its pairs know their number and how many they are. Some have
// a value that is stored in parts.
func numbered(n int) []hostdb.Put {
	count := 2 + n%5
	batch := make([]hostdb.Put, count)
	for i := range batch {
		size := 500 + n*37%3000
		if i == 1 && n%10 == 0 {
			size = 70_000
		}
		value := fmt.Appendf(nil, "%d of %d ", n, count)
		batch[i] = hostdb.Put{Key: fmt.Appendf(nil, "n/%08d/%d", n, i), Value: append(value, noisy(size, n+i)...)}
	}
	return batch
}

func noisy(size, seed int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b) // it returns no error
	return b
}

// checkNumbered checks that the acknowledged batches are there, and that each is there as a whole or not at all.
func checkNumbered(t *testing.T, db *DB, acked map[int]bool) {
	t.Helper()
	found := map[int][]hostdb.Put{}
	err := db.Scan([]byte("n/"), nil, func(k, v []byte) error {
		n, err := strconv.Atoi(string(k[2:10]))
		if err != nil {
			return err
		}
		found[n] = append(found[n], hostdb.Put{Key: bytes.Clone(k), Value: bytes.Clone(v)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range acked {
		if found[n] == nil {
			t.Errorf("batch %d was acknowledged and is lost", n)
		}
	}
	for n, got := range found {
		want := numbered(n)
		whole := len(got) == len(want)
		for i := range got {
			whole = whole && bytes.Equal(got[i].Key, want[i].Key) && bytes.Equal(got[i].Value, want[i].Value)
		}
		if !whole {
			t.Errorf("batch %d is there in part: %d of %d pairs", n, len(got), len(want))
		}
	}
}

// commitChild commits batches from four callers, from the first number that is not there, and writes each number that
// was acknowledged to its standard output. It ends when it is killed.
func commitChild(dir string) error {
	db, err := open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, smallMemTable)
	if err != nil {
		return err
	}
	first := 0
	err = db.Scan([]byte("n/"), nil, func(k, _ []byte) error {
		n, err := strconv.Atoi(string(k[2:10]))
		first = max(first, n+1)
		return err
	})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range 4 {
		go func() {
			for n := first + w; ; n += 4 {
				if err := db.Commit(numbered(n)); err != nil {
					errs <- err
					return
				}
				if _, err := fmt.Println(n); err != nil { // one write each
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKill kills a process that commits, again and again on one directory.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[int]bool{}
	for round := range 6 {
		cmd := childCommand(t, "commit", dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := 1 + rand.IntN(250) // acknowledgements from now
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				break // the line that was being written
			}
			acked[n] = true
			if i == kill {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		if code := cmd.ProcessState.ExitCode(); code != -1 {
			t.Fatalf("round %d: the child ended by itself, status %d: %s", round, code, stderr.String())
		}
		db, err := open(Config{Dir: dir}, smallMemTable)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		checkNumbered(t, db, acked)
		if err := db.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d batches were acknowledged", len(acked))
}

// powerCut knows what the disk holds for certain: of a write-ahead log, what it was when it was last synced, and nothing
// if it never was. Badger syncs its other files before it relies on them.
type powerCut struct {
	mu   sync.Mutex
	disk map[string][]byte
}

func (p *powerCut) sync(f *os.File) error {
	b, err := os.ReadFile(f.Name())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disk[filepath.Base(f.Name())] = b
	return datasync(f)
}

// pull makes the directory that would be found after the power was cut now.
func (p *powerCut) pull(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	logs, err := filepath.Glob(filepath.Join(dir, "*"+logSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		name = filepath.Base(name)
		p.mu.Lock()
		b := p.disk[name]
		p.mu.Unlock()
		if b != nil || rand.IntN(2) == 0 { // the entry of a file may be durable though its length is not
			writeSparse(t, filepath.Join(to, name), b)
		}
	}
	// A log that was deleted by now is in a table. Tables come and go, so copy until the list of them stands.
	name := filepath.Join(dir, "MANIFEST")
	for {
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rest := t.TempDir()
		copyDir(t, rest, dir)
		after, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(before, after) {
			for _, pattern := range []string{"MANIFEST", "*.sst", "*.vlog", "FORMAT", "KEYREGISTRY", "DISCARD"} {
				moveAll(t, to, filepath.Join(rest, pattern))
			}
			return to
		}
	}
}

func moveAll(t *testing.T, to, pattern string) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Rename(name, filepath.Join(to, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerCut opens what a power cut would leave while six callers commit.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := open(Config{Dir: dir}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p := &powerCut{disk: map[string][]byte{}}
	db.writer.work.Lock()
	db.writer.wal.syncFile = p.sync
	db.writer.work.Unlock()

	var mu sync.Mutex
	acked := map[int]bool{}
	const rounds, each = 5, 25
	for round := range rounds {
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range each {
					n := (round*6+w)*each + i
					if err := db.Commit(numbered(n)); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[n] = true
					mu.Unlock()
				}
			})
		}
		if round%2 == 0 {
			wg.Wait()
		}
		db.writer.work.Lock() // between two groups
		mu.Lock()
		known := map[int]bool{}
		for n := range acked {
			known[n] = true
		}
		mu.Unlock()
		crashed := p.pull(t, dir)
		db.writer.work.Unlock()

		after, err := open(Config{Dir: crashed}, smallMemTable)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		checkNumbered(t, after, known)
		if err := after.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// TestPowerCutAfterRotation commits a group that fills more than one memtable, and cuts the power before Badger has written it
// to a table: the logs that were left behind within the group must have been synced too.
func TestPowerCutAfterRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p := &powerCut{disk: map[string][]byte{}}
	db.writer.work.Lock()
	db.writer.wal.syncFile = p.sync
	db.writer.work.Unlock()
	for _, name := range []string{"000001.sst", "000002.sst"} {
		// Badger does not overwrite tables; it tries the next number after a second.
		writeSparse(t, filepath.Join(dir, name), nil)
	}
	var group []*waiter
	acked := map[int]bool{}
	for i := range 31 {
		n := i * 10 // those with a large value
		c := &waiter{batch: numbered(n)}
		c.bytes, c.entries = db.set.cost(c.batch)
		group = append(group, c)
		acked[n] = true
	}
	first := db.writer.wal.id
	if err := db.writer.commitGroup(group); err != nil {
		t.Fatal(err)
	}
	crashed := p.pull(t, dir)
	if n := db.writer.wal.id - first; n < 1 {
		t.Errorf("%d rotations, so the test shows nothing", n)
	}
	after, err := open(Config{Dir: crashed}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	checkNumbered(t, after, acked)
	if err := after.Close(); err != nil {
		t.Error(err)
	}
}
