package badgerdb

import (
	"fmt"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"hostmesh/hostdb"
)

// writer commits the batches of all callers with as few transactions and fsyncs as possible. Its goroutine takes all
// that is queued, packs it into transactions, makes them durable with one fsync and answers; what comes meanwhile
// makes the next group. So a lone caller waits for one fsync and no timer, and many share one.
//
// A batch is never split over two transactions, because a transaction is what survives a crash whole.
type writer struct {
	bdb   *badger.DB
	set   settings
	space func() error // says whether the file system has room
	room  func()       // blocks while compaction is behind

	mu      sync.Mutex // guards queue and stopped
	queue   []*waiter
	stopped bool
	poke    chan struct{} // one slot: the queue is not empty, or stopped
	exited  chan struct{}

	// work is held while transactions are written. It guards the fields below.
	work   sync.Mutex
	wal    *wal
	failed error // why nothing is written any more

	counts counts
}

// waiter is a call of commit.
type waiter struct {
	batch          []hostdb.Put
	bytes, entries int
	done           chan error
}

// counts are read by Stats. Their mutex is apart from work, so that nobody waits for a disk to read a metric.
type counts struct {
	mu                                sync.Mutex
	batches, puts, bytes, txns, syncs uint64
	largestGroup, sweptParts          uint64
	syncTime                          time.Duration
	failed                            bool
}

func newWriter(bdb *badger.DB, set settings, wal *wal, space func() error, room func()) *writer {
	w := &writer{bdb: bdb, set: set, wal: wal, space: space, room: room,
		poke: make(chan struct{}, 1), exited: make(chan struct{})}
	go w.run()
	return w
}

// commit blocks until the batch is durable or failed.
func (w *writer) commit(batch []hostdb.Put) error {
	c := &waiter{batch: batch, done: make(chan error, 1)}
	c.bytes, c.entries = w.set.cost(batch)
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return ErrClosed
	}
	w.queue = append(w.queue, c)
	w.mu.Unlock()
	w.wake()
	return <-c.done
}

func (w *writer) wake() {
	select {
	case w.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// close answers what is queued and ends the goroutine.
func (w *writer) close() error {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.wake()
	<-w.exited
	w.work.Lock()
	defer w.work.Unlock()
	var err error
	if w.failed == nil { // a sweep may have written since the last sync
		err = w.wal.sync()
	}
	w.wal.close()
	return err
}

func (w *writer) run() {
	defer close(w.exited)
	for range w.poke {
		w.mu.Lock()
		group, stopped := w.queue, w.stopped
		w.queue = nil
		w.mu.Unlock()
		if len(group) > 0 {
			err := w.commitGroup(group)
			for _, c := range group {
				c.done <- err
			}
		}
		if stopped {
			return // stopped was set after the last append, so the queue is empty for good
		}
	}
}

// commitGroup writes the batches in their order and syncs once.
func (w *writer) commitGroup(group []*waiter) error {
	w.work.Lock()
	defer w.work.Unlock()
	if w.failed != nil {
		return fmt.Errorf("refused since an earlier write failed, open the database anew: %w", w.failed)
	}
	if err := w.space(); err != nil {
		return err
	}
	w.room()
	txns := uint64(0)
	for rest := group; len(rest) > 0; {
		n := w.pack(rest)
		if err := w.writeTxn(rest[:n]); err != nil {
			return w.fail(fmt.Errorf("write: %w", classify(err)))
		}
		rest = rest[n:]
		txns++
	}
	start := time.Now()
	if err := w.wal.sync(); err != nil {
		return w.fail(classify(err))
	}
	took := time.Since(start)

	c := &w.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range group {
		c.puts += uint64(len(g.batch))
		c.bytes += uint64(g.bytes)
	}
	c.batches += uint64(len(group))
	c.largestGroup = max(c.largestGroup, uint64(len(group)))
	c.txns += txns
	c.syncs++
	c.syncTime += took
	return nil
}

// fail makes err final: after a failed fsync the kernel may have dropped the pages, and a second one would
// succeed with nothing written.
func (w *writer) fail(err error) error {
	w.failed = err
	w.counts.mu.Lock()
	w.counts.failed = true
	w.counts.mu.Unlock()
	return err
}

// pack says how many of the batches fit one transaction. One always does: settings see to that.
func (w *writer) pack(group []*waiter) int {
	const slack = 64 // Badger's own last entry; its limits are exclusive
	bytes, entries := slack, 2
	for i, c := range group {
		bytes, entries = bytes+c.bytes, entries+c.entries
		if i > 0 && (int64(bytes) >= w.bdb.MaxBatchSize() || int64(entries) >= w.bdb.MaxBatchCount()) {
			return i
		}
	}
	return len(group)
}

func (w *writer) writeTxn(group []*waiter) (err error) {
	defer guard(&err)()
	txn := w.bdb.NewTransaction(true)
	defer txn.Discard()
	for _, c := range group {
		for _, p := range c.batch {
			if err := w.set.write(txn, p); err != nil {
				return err
			}
		}
	}
	if err := txn.Commit(); err != nil {
		return err
	}
	return w.wal.wrote()
}
