package badgerdb

import (
	"fmt"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"hostmesh/hostdb"
)

const (
	// memTableSize decides what a batch may hold, and with 1.3 times it as one block most of the memory. Resident
	// after 20,000 commits of 1 KB, of which 9 MB are the bare process (BenchmarkMemory):
	//
	//	            batch      peak    at rest
	//	 8 MiB    1.0 MiB     88 MB      23 MB
	//	12 MiB    1.5 MiB     93 MB      30 MB (102 and 39 when the last flush fell late)
	//	16 MiB    2.0 MiB    112 MB      40 MB
	//
	// 12 MiB is the least that takes a document of 1 MiB with what is stored around it. A later release may enlarge
	// it but never shrink it: a write-ahead log that was filled under a larger size does not fit the memtable it is
	// replayed into, and Badger ends the process. settleFormat keeps the largest size ever used.
	memTableSize = 12 << 20

	defaultMinFree     = 64 << 20
	defaultMaintenance = 6 * time.Hour
)

// settings are what follows from the size of the memtable. The budget of a transaction (Badger: 15 % of the
// memtable, 1,887,436 bytes of 12 MiB) is shared out so that every batch within batchBytes and batchPuts fits,
// whatever its shape: 12.5 % for keys and values, 0.9 % for what we and Badger add to each put, 1.5 % for the
// repeated keys of long values.
type settings struct {
	memTable   int64
	batchBytes int // 1.5 MiB
	batchPuts  int // 6,144
	maxKey     int // 47 KiB; Badger's own limit is 65,000 bytes
	part       int // 384 KiB: longer values are stored in parts, see value.go
}

func newSettings(memTable int64) settings {
	return settings{
		memTable:   memTable,
		batchBytes: int(memTable / 8),
		batchPuts:  int(memTable / 2048),
		maxKey:     int(memTable/256 - memTable/12288),
		part:       int(memTable / 32),
	}
}

// check says whether a batch is one that Commit takes.
func (s settings) check(batch []hostdb.Put) error {
	size := 0
	for _, p := range batch {
		if len(p.Key) > s.maxKey {
			return fmt.Errorf("a key of %d bytes: at most %d are possible", len(p.Key), s.maxKey)
		}
		size += len(p.Key) + len(p.Value)
	}
	if size > s.batchBytes || len(batch) > s.batchPuts {
		return fmt.Errorf("%d puts with %d bytes, at most %d puts with %d bytes are possible: %w",
			len(batch), size, s.batchPuts, s.batchBytes, hostdb.ErrBatchTooLarge)
	}
	return nil
}

// options are Badger's settings for a small agent, which reads from its own views and comes here to write, to start
// and to look into history. Badger's defaults take three times the memory.
func (s settings) options(dir string, log badger.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(log).
		// Badger's sync is two system calls for each transaction, and ignores the error of one: see wal.go.
		WithSyncWrites(false).
		// The lock is ours, so that its error can name the owner: see lock.go.
		WithBypassLockGuard(true).
		// Its counters are global variables of the process. Stats counts for itself.
		WithMetricsEnabled(false).
		// There is one writer, which reads nothing: there are no conflicts to look for.
		WithDetectConflicts(false).
		// History has keys of its own; older versions of a key are garbage at once.
		WithNumVersionsToKeep(1).
		WithMemTableSize(s.memTable).
		// One memtable is filled while one is flushed. A third would only help longer bursts than an import makes.
		WithNumMemtables(1).
		// Compaction is ours, see compact.go. Flatten leaves level 0 alone unless it has more tables than this
		// when it is the only level, and none must stop a write that nobody would wake.
		WithNumLevelZeroTables(1).
		WithNumLevelZeroTablesStall(neverStall).
		WithNumCompactors(0).
		// A compaction builds several tables at once in memory, and the buffers grow by doubling: with 2 MiB the
		// peak of an import of 100 MB is a quarter higher.
		WithBaseTableSize(1 << 20).
		WithBaseLevelSize(16 << 20).
		// Nothing may reach the value log, and parts are half as long as this: see DESIGN.md.
		WithValueThreshold(int64(2 * s.part)).
		// The value log stays empty; the size of its file is only address space. It must exceed any value.
		WithValueLogFileSize(4 << 20).
		// Blocks are unpacked into this cache, which a scan at start leaves full. Only lookups of history come back to it, and
		// those are rare: it holds some 250 blocks.
		WithBlockCacheSize(1 << 20).
		// The indexes and bloom filters of about 100 MiB of tables.
		WithIndexCacheSize(2 << 20).
		// Documents pack to less than half; zstd would cost more memory for little more.
		WithCompression(options.Snappy).
		// Each block is checked when it is read from the file, so damage is an error and not wrong data.
		WithChecksumVerificationMode(options.OnBlockRead)
}
