package badgerdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

func TestStorage(t *testing.T) {
	t.Parallel() // with the others that mostly wait for the disk
	hostdbtest.TestStorage(t, func(t *testing.T, dir string) hostdb.Storage { return openDB(t, Config{Dir: dir}) })
}

func openDB(t *testing.T, cfg Config) *DB {
	t.Helper()
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // most tests close it themselves
	return db
}

func put(key, value string) []hostdb.Put {
	return []hostdb.Put{{Key: []byte(key), Value: []byte(value)}}
}

func mustCommit(t *testing.T, db *DB, batch []hostdb.Put) {
	t.Helper()
	if err := db.Commit(batch); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, is error, texts ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error is %v, want %v", err, is)
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not contain %q", err, s)
		}
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, Config{Dir: dir})
	for range 2 {
		_, err := Open(Config{Dir: dir})
		wantError(t, err, ErrLocked, dir, fmt.Sprintf("process %d", os.Getpid()), "data directory of its own")
	}
	mustCommit(t, db, put("a", "1"))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	openDB(t, Config{Dir: dir})
}

func TestNoDirectory(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("Open without a directory: no error")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open of a file: %v, want an error that names it", err)
	}
	openDB(t, Config{Dir: filepath.Join(t.TempDir(), "made", "with parents")})
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, Config{Dir: dir})
	mustCommit(t, db, put("a", "1"))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, formatFile)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{
		"hostmesh-badgerdb 2\nsomething new\n":   ErrFormat,
		"another program\n":                      ErrCorrupt,
		"hostmesh-badgerdb 1\n":                  ErrCorrupt,
		"hostmesh-badgerdb 1\nmemtable 0\n":      ErrCorrupt,
		"hostmesh-badgerdb 1\nmemtable plenty\n": ErrCorrupt,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Dir: dir})
		wantError(t, err, want, dir)
	}
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, Config{Dir: dir})
	if _, found, err := db.Get([]byte("a")); !found || err != nil {
		t.Errorf("Get after the refusals: %v, %v", found, err)
	}
}

// TestForeignDirectory: a Badger database that is not ours is left alone.
func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	foreign, err := badger.Open(newSettings(smallMemTable).options(dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Dir: dir})
	wantError(t, err, ErrFormat, dir, "choose another data directory")
}

// TestMemTableNeverShrinks: a log that was filled by a larger memtable would end the process in a smaller one.
func TestMemTableNeverShrinks(t *testing.T) {
	dir := t.TempDir()
	sizes := []int64{smallMemTable, 4 * smallMemTable, smallMemTable, 2 * smallMemTable}
	used := []int64{smallMemTable, 4 * smallMemTable, 4 * smallMemTable, 4 * smallMemTable}
	for i, size := range sizes {
		db, err := open(Config{Dir: dir}, size)
		if err != nil {
			t.Fatal(err)
		}
		if db.set.memTable != used[i] {
			t.Errorf("opened with %d: the memtable is %d, want %d", size, db.set.memTable, used[i])
		}
		key := fmt.Sprint("large/", i)
		mustCommit(t, db, put(key, strings.Repeat("x", 100_000))) // in parts of another size each time
		err = db.Scan([]byte("large/"), nil, func(k, v []byte) error {
			if len(v) != 100_000 {
				t.Errorf("%s has %d bytes", k, len(v))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBudget: the largest batch that check lets through fits a transaction, for every size of memtable.
func TestBudget(t *testing.T) {
	for _, mem := range []int64{smallMemTable, memTableSize, 16 << 20, 64 << 20} {
		s := newSettings(mem)
		limit := 15 * mem / 100
		for what, shape := range map[string]struct{ puts, key, value int }{
			"small puts":             {s.batchPuts, s.batchBytes / s.batchPuts / 2, s.batchBytes / s.batchPuts / 2},
			"one value":              {1, 1, s.batchBytes - 1},
			"long keys, long values": {(s.batchBytes - 1) / (s.maxKey + s.part + 1), s.maxKey, s.part + 1},
			"longest key and value":  {1, s.maxKey, s.batchBytes - s.maxKey},
		} {
			batch := make([]hostdb.Put, shape.puts)
			for i := range batch {
				batch[i] = hostdb.Put{Key: make([]byte, shape.key), Value: make([]byte, shape.value)}
			}
			if err := s.check(batch); err != nil {
				t.Fatalf("%d, %s: %v", mem, what, err)
			}
			bytes, entries := s.cost(batch)
			if int64(bytes)+64 >= limit || int64(entries)+2 >= limit/96 {
				t.Errorf("%d, %s: %d bytes and %d entries, limit %d and %d", mem, what, bytes, entries, limit, limit/96)
			}
		}
	}
	if s := newSettings(memTableSize); s.batchBytes < 3<<19 || s.maxKey > 65000-10 {
		t.Errorf("settings are %+v", s)
	}
}

func TestStorageFull(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Config{Dir: dir, MinFree: 1 << 60})
	wantError(t, err, hostdb.ErrStorageFull, dir, "free some space")

	db := openDB(t, Config{Dir: dir})
	space := db.writer.space
	db.writer.space = func() error { return checkSpace(dir, 1<<60) }
	wantError(t, db.Commit(put("a", "1")), hostdb.ErrStorageFull, dir)
	if _, found, err := db.Get([]byte("a")); found || err != nil {
		t.Errorf("Get of the refused: %v, %v", found, err)
	}
	db.writer.space = space
	mustCommit(t, db, put("a", "1")) // nothing was written, so it goes on
}

// TestFailedSync: after a failed fsync nobody knows what the disk holds, and a second one proves nothing.
func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, Config{Dir: dir})
	mustCommit(t, db, put("a", "1"))
	db.writer.wal.syncFile = func(*os.File) error { return unix.EIO }
	wantError(t, db.Commit(put("b", "1")), unix.EIO, dir)
	db.writer.wal.syncFile = datasync
	wantError(t, db.Commit(put("c", "1")), unix.EIO, "open the database anew")
	if !db.Stats().Failed {
		t.Error("Stats do not tell")
	}
	if _, found, err := db.Get([]byte("a")); !found || err != nil {
		t.Errorf("reading goes on: %v, %v", found, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	db = openDB(t, Config{Dir: dir})
	mustCommit(t, db, put("c", "1"))

	db.writer.wal.syncFile = func(*os.File) error { return unix.ENOSPC }
	wantError(t, db.Commit(put("d", "1")), hostdb.ErrStorageFull)
}

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		err  error
		want error
	}{
		{errors.New("while writing err: write x: no space left on device"), hostdb.ErrStorageFull},
		{&os.PathError{Op: "write", Path: "x", Err: unix.EDQUOT}, hostdb.ErrStorageFull},
		{errors.New("manifest has unsupported version: 9 (we support 8)"), ErrFormat},
		{errors.New("manifest has bad magic"), ErrCorrupt},
		{errors.New("block: checksum mismatch"), ErrCorrupt},
		{badger.ErrDBClosed, ErrClosed},
	} {
		got := classify(test.err)
		if !errors.Is(got, test.want) || !strings.Contains(got.Error(), test.err.Error()) {
			t.Errorf("classify(%v) = %v, want it to wrap %v and to keep the text", test.err, got, test.want)
		}
	}
	if plain := errors.New("permission denied"); classify(plain) != plain || classify(nil) != nil {
		t.Error("classify changes what it does not know")
	}
}

// TestGroup: the commits that wait for a sync share the next one, and transactions.
func TestGroup(t *testing.T) {
	db := openDB(t, Config{Dir: t.TempDir()})
	db.writer.work.Lock() // as if a sync went on
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := db.Commit(put(fmt.Sprintf("k%02d", i), strings.Repeat("x", 1000))); err != nil {
				t.Error(err)
			}
		})
	}
	for queued := 0; queued < n-n/2; time.Sleep(time.Millisecond) { // the first group may be taken already
		db.writer.mu.Lock()
		queued = len(db.writer.queue)
		db.writer.mu.Unlock()
	}
	db.writer.work.Unlock()
	wg.Wait()
	s := db.Stats()
	if s.Batches != n || s.LargestGroup < n/2 || s.Syncs > n/2+1 || s.Transactions != s.Syncs {
		t.Errorf("%+v; want %d batches in few syncs", s, n)
	}
}

func TestLoneCommitIsOneSync(t *testing.T) {
	db := openDB(t, Config{Dir: t.TempDir()})
	mustCommit(t, db, put("a", "1")) // the first one of a log syncs the directory too
	var synced []string
	db.writer.wal.syncFile = func(f *os.File) error {
		synced = append(synced, filepath.Base(f.Name()))
		return datasync(f)
	}
	mustCommit(t, db, put("b", strings.Repeat("large ", 200_000)))
	if len(synced) != 1 || db.Stats().Transactions != 2 {
		t.Errorf("synced %q, %+v", synced, db.Stats())
	}
}

// countParts is how many part keys there are.
func countParts(t *testing.T, db *DB) int {
	t.Helper()
	n := 0
	err := db.bdb.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{spacePart}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	db, err := open(Config{Dir: dir}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, key := range []string{"keeps", "becomes short", "becomes shorter", "is deleted", "k", "k\x01", "is written again"} {
		mustCommit(t, db, put(key, long(100_000))) // 3 parts beside the head
	}
	if n := countParts(t, db); n != 7*3 {
		t.Fatalf("%d parts, want 21", n)
	}
	mustCommit(t, db, put("becomes short", "x"))
	mustCommit(t, db, put("becomes shorter", long(40_000)))
	mustCommit(t, db, put("k", ""))
	mustCommit(t, db, []hostdb.Put{{Key: []byte("is deleted")}, {Key: []byte("is written again")}})
	mustCommit(t, db, put("is written again", long(100_000)))
	for _, want := range []int{3 + 2 + 3 + 3, 0} {
		if got, err := db.sweep(); got != want || err != nil {
			t.Errorf("sweep deleted %d, %v; want %d", got, err, want)
		}
	}
	if n := countParts(t, db); n != 3*3+1 {
		t.Errorf("%d parts are left, want 10", n)
	}
	if db.Stats().SweptParts != 11 {
		t.Errorf("%+v", db.Stats())
	}
	for key, n := range map[string]int{"keeps": 100_000, "becomes short": 1, "becomes shorter": 40_000, "k": 0, "k\x01": 100_000,
		"is written again": 100_000} {
		if v, found, err := db.Get([]byte(key)); len(v) != n || !found || err != nil {
			t.Errorf("%q: %d bytes, %v, %v; want %d", key, len(v), found, err, n)
		}
	}
}

// TestSweepBesideCommits: a sweep takes no part of a value that is being replaced.
func TestSweepBesideCommits(t *testing.T) {
	db, err := open(Config{Dir: t.TempDir()}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			if _, err := db.sweep(); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 40 {
		n := 10
		if i%2 == 0 {
			n = 40_000 + i*1000
		}
		mustCommit(t, db, put("k", strings.Repeat("x", n)))
		if v, _, err := db.Get([]byte("k")); len(v) != n || err != nil {
			t.Fatalf("%d bytes, %v; want %d", len(v), err, n)
		}
	}
	wg.Wait()
}

func TestRun(t *testing.T) {
	db, err := open(Config{Dir: t.TempDir(), Maintenance: time.Millisecond}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, db, put("k", strings.Repeat("x", 100_000)))
	mustCommit(t, db, put("k", ""))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- db.Run(ctx) }()
	for db.Stats().SweptParts < 3 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v after its context ended", err)
	}
	go func() { ended <- db.Run(t.Context()) }()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run = %v after Close", err)
	}
}

func TestStatsAndSize(t *testing.T) {
	db, err := open(Config{Dir: t.TempDir()}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		mustCommit(t, db, []hostdb.Put{{Key: fmt.Append(nil, "k", i), Value: noisy(60_000, i)}})
	}
	s := db.Stats()
	if s.Batches != 60 || s.Puts != 60 || s.Bytes < 60*60_000 || s.Syncs == 0 || s.WAL == 0 || s.Failed {
		t.Errorf("%+v", s)
	}
	if s.ValueLog > 64<<10 {
		t.Errorf("the value log holds %d bytes, and should hold nothing", s.ValueLog)
	}
	if size, err := db.Size(); size < 60*60_000 || err != nil {
		t.Errorf("Size = %d, %v", size, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if s := db.Stats(); s.Batches != 60 || s.LSM != 0 {
		t.Errorf("after Close: %+v", s)
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	l := badgerLogger{slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Debugf("quiet")
	l.Infof("quiet")
	l.Warningf("%s might be too small. Metrics: quiet", "Block cache")
	l.Warningf("careful: %d\n", 1)
	l.Errorf("broken: %s\n", "disk")
	got := b.String()
	if strings.Contains(got, "quiet") || !strings.Contains(got, `level=WARN msg="badger: careful: 1"`) ||
		!strings.Contains(got, `level=ERROR msg="badger: broken: disk"`) {
		t.Error(got)
	}
}

// TestNoLeaks: reopening for years must not gather goroutines.
func TestNoLeaks(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	for range 3 {
		db, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, db, put("a", "1"))
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
