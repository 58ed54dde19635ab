package badgerdb

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/hostdb"
)

// load commits size bytes in values of 32 KiB from 16 callers, in an order that spreads over all keys.
func load(t *testing.T, db *DB, size int) {
	t.Helper()
	const value = 32 << 10
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= uint64(size/value); i = next.Add(1) {
				key := fmt.Appendf(nil, "%016x", i*0x9E3779B97F4A7C15)
				if err := db.Commit([]hostdb.Put{{Key: key, Value: noisy(value, int(i))}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func eventuallyCompacted(t *testing.T, db *DB) {
	t.Helper()
	for range 600 {
		if !db.compactor.levels().due() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("level 0 is not merged: %+v", db.compactor.levels())
}

// Nothing but our compactor takes tables from level 0, so a writer that waits for room without anyone to make it
// would hang here.
func TestSustainedLoad(t *testing.T) {
	db, err := Open(Config{Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const size = 200 << 20
	load(t, db, size)
	eventuallyCompacted(t, db)
	if s := db.Stats(); s.LSM < size/2 || s.Tables-s.Level0 < 10 {
		t.Errorf("%d bytes in %d tables, %d of them not compacted", s.LSM, s.Tables, s.Level0)
	}
}

// A row of crashes may leave any number of tables in level 0, and logs that become more of them in Open.
func TestOpenWithManyTablesInLevel0(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := open(Config{Dir: dir}, smallMemTable)
	if err != nil {
		t.Fatal(err)
	}
	db.compactor.close()
	load(t, db, 20<<20)
	if n := db.Stats().Level0; n < 2*waitAt {
		t.Fatalf("only %d tables in level 0", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = open(Config{Dir: dir}, smallMemTable); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventuallyCompacted(t, db)
	load(t, db, 20<<20)
}

// A compaction that fails, as on a full disk, must not hold writers, nor the Close that waits for them.
func TestFailedCompactionHoldsNobody(t *testing.T) {
	var tries atomic.Int64
	c := startCompactor(slog.New(slog.DiscardHandler), func() levels { return levels{tables: waitAt} }, func() error {
		tries.Add(1)
		return errors.New("no space")
	})
	c.wait()
	c.close()
	c.wait()
	if tries.Load() == 0 {
		t.Error("it was not tried")
	}
}

func TestWriterWaitsForCompaction(t *testing.T) {
	var tables atomic.Int64
	tables.Store(waitAt)
	finish := make(chan struct{})
	c := startCompactor(slog.New(slog.DiscardHandler), func() levels { return levels{tables: int(tables.Load())} }, func() error {
		<-finish
		tables.Store(0)
		return nil
	})
	defer c.close()
	left := make(chan int64, 1)
	go func() {
		c.wait()
		left <- tables.Load()
	}()
	close(finish)
	if n := <-left; n != 0 {
		t.Errorf("went on with %d tables in level 0", n)
	}
}

// What a write costs in merges does not grow with what is there: each byte is rewritten a few times, and writers that keep pace
// with the compactor never wait.
func TestMergesFollowWrites(t *testing.T) {
	const table = 5 << 20 // of a memtable, packed
	for _, size := range []int64{100 << 20, 900 << 20} {
		var l levels
		var rewritten int64
		for written := int64(0); written < size; written += table {
			if l.full() {
				t.Fatalf("a writer waits at %+v", l)
			}
			l.tables, l.bytes = l.tables+1, l.bytes+table
			if l.due() {
				l = levels{below: l.below + l.bytes}
				rewritten += l.below
			}
		}
		if rewritten > (mergeShare+2)*size {
			t.Errorf("%d bytes written, %d rewritten", size, rewritten)
		}
		if l.tables > maxLevel0 {
			t.Errorf("%d tables in level 0", l.tables)
		}
	}
	if l := (levels{tables: maxLevel0, bytes: maxLevel0, below: 1 << 40}); !l.due() {
		t.Error("a lookup would ask ever more tables")
	}
}
