// Package badgerdb is the hostdb.Storage of an agent: an ordered, durable map in a directory, on Badger.
//
// It owns the directory: its lock, its format, the memory it may take, how writers share an fsync, and what a power
// cut leaves behind. It knows nothing of what the keys mean: operations, registers and history are package hostdb's.
// Watching the free space of the file system and closing the storage in time is the caller's too; MinFree is only
// the last ditch before it.
//
// DESIGN.md in this directory tells why durability does not rest on Badger's own SyncWrites, nor on its value log.
package badgerdb

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"hostmesh/hostdb"
)

var (
	// ErrLocked is returned by Open when another process, or another DB of this one, has the directory open.
	ErrLocked = errors.New("directory is in use")

	// ErrFormat is returned by Open when the directory was written by a newer hostmesh, or by another program.
	ErrFormat = errors.New("directory has another format")

	// ErrCorrupt is returned when files of the directory are damaged.
	ErrCorrupt = errors.New("database files are damaged")

	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("storage is closed")
)

// Config says where the map lives. Only Dir is required.
type Config struct {
	// Dir is the directory, made if missing (mode 0700) and used by nothing else.
	Dir string

	// Logger gets Badger's warnings and errors. Nil: slog.Default.
	Logger *slog.Logger

	// MinFree is how many bytes must be free on the file system for Open and Commit to go on; below it they
	// return hostdb.ErrStorageFull and write nothing. Badger writes through memory maps: a file system that is
	// full when a page is written kills the process (SIGBUS), so this must cover what is under way.
	// Zero: 64 MiB. Negative: no check.
	MinFree int64

	// Maintenance is the mean time between the rounds of Run. Zero: 6 hours.
	Maintenance time.Duration
}

// DB is an open directory. Open makes one; its methods are safe for concurrent use.
type DB struct {
	cfg       Config
	log       *slog.Logger
	set       settings
	bdb       *badger.DB
	lock      *dirLock
	writer    *writer
	compactor *compactor

	mu     sync.Mutex     // guards closed, and orders users.Add before users.Wait
	closed bool           // no method may begin
	users  sync.WaitGroup // methods under way: Badger unmaps its files when it closes

	closeOnce sync.Once
	closeErr  error
	done      chan struct{} // closed when Close begins; ends Run
}

var _ hostdb.Storage = (*DB)(nil)

// Open opens the directory, making it if it is missing, and recovers what a crash left. It blocks while it replays
// the write-ahead log, at most some 40 MB. Errors wrap ErrLocked, ErrFormat, ErrCorrupt or hostdb.ErrStorageFull
// where one of them is the reason. The caller closes the DB.
func Open(cfg Config) (*DB, error) { return open(cfg, memTableSize) }

// open is Open with another memtable size, so that tests see rotations without writing much.
func open(cfg Config, memTable int64) (_ *DB, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("open database: no directory given")
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = defaultMinFree
	}
	if cfg.Maintenance == 0 {
		cfg.Maintenance = defaultMaintenance
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	db := &DB{cfg: cfg, log: cfg.Logger, done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open database %s: %w", cfg.Dir, err)
		}
	}()

	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, classify(err)
	}
	if db.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.lock.release()
		}
	}()
	if err := checkSpace(cfg.Dir, cfg.MinFree); err != nil {
		return nil, err
	}
	if memTable, err = settleFormat(cfg.Dir, memTable); err != nil {
		return nil, err
	}
	db.set = newSettings(memTable)
	if err := checkFiles(cfg.Dir, db.set.options(cfg.Dir, badgerLogger{db.log})); err != nil {
		return nil, err
	}
	// A killed process leaves writes that are in its log but not yet on the disk. Whoever reads them now may act on
	// them, so they become durable first.
	if err := syncLogs(cfg.Dir); err != nil {
		return nil, err
	}
	if db.bdb, err = openBadger(db.set.options(cfg.Dir, badgerLogger{db.log})); err != nil {
		return nil, err
	}
	wal, err := openWAL(cfg.Dir)
	if err != nil {
		_ = db.bdb.Close() // the reason to report is err
		return nil, err
	}
	db.compactor = newCompactor(db.bdb, db.log, func(more int64) error { return checkSpace(cfg.Dir, withRoom(cfg.MinFree, more)) })
	wal.rotating = db.compactor.look
	db.writer = newWriter(db.bdb, db.set, wal, func() error { return checkSpace(cfg.Dir, cfg.MinFree) }, db.compactor.wait)
	return db, nil
}

// openBadger turns a panic of Badger on damaged files into an error.
func openBadger(opt badger.Options) (bdb *badger.DB, err error) {
	defer guard(&err)()
	bdb, err = badger.Open(opt)
	return bdb, classify(err)
}

// MaxBatch is what one Commit takes. It is at least 1.5 MiB and 6,144 puts, and never shrinks for a directory.
func (db *DB) MaxBatch() (bytes, puts int) { return db.set.batchBytes, db.set.batchPuts }

// Commit writes the batch: all of it or nothing, durable when it returns nil. Calls that come while another one
// waits for the disk share the next fsync; a lone call costs one. Reads may see a batch a moment before it is durable.
//
// A batch over MaxBatch, or with a key over 47 KiB, is refused and the DB goes on. So it does after
// hostdb.ErrStorageFull from the check of MinFree. After any other error every later Commit fails as well, because
// what the disk holds is unknown: close the DB and open it anew.
func (db *DB) Commit(batch []hostdb.Put) error {
	if err := db.acquire(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer db.users.Done()
	if err := db.set.check(batch); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if len(batch) == 0 {
		return nil
	}
	if err := db.writer.commit(batch); err != nil {
		return fmt.Errorf("commit to %s: %w", db.cfg.Dir, err)
	}
	return nil
}

// Close waits for the calls under way, writes what is in memory to tables, and releases the directory. It is
// idempotent, and returns the first call's error each time. It must not be called from a callback of Scan.
//
// On a file system without room it waits until there is some: Badger writes tables through memory maps, and would end the process.
// Nothing is lost if the process ends meanwhile: the write-ahead log has all of it.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.mu.Lock()
		db.closed = true
		db.mu.Unlock()
		close(db.done)
		db.users.Wait()
		err := db.writer.close()
		db.compactor.close()
		db.awaitRoom()
		err = errors.Join(err, closeBadger(db.bdb))
		db.lock.release()
		if err != nil {
			db.closeErr = fmt.Errorf("close database %s: %w", db.cfg.Dir, err)
		}
	})
	return db.closeErr
}

// roomEvery is how often a DB that is to close looks whether there is room.
const roomEvery = 250 * time.Millisecond

// awaitRoom blocks while the file system has no room for tables.
func (db *DB) awaitRoom() {
	told := false
	for err := checkSpace(db.cfg.Dir, db.cfg.MinFree); errors.Is(err, hostdb.ErrStorageFull); err = checkSpace(db.cfg.Dir, db.cfg.MinFree) {
		if !told {
			told = true
			db.log.Warn("the database waits for room before it closes; what it holds is in its log", "dir", db.cfg.Dir, "err", err)
		}
		time.Sleep(roomEvery)
	}
}

func closeBadger(bdb *badger.DB) (err error) {
	defer guard(&err)()
	return classify(bdb.Close())
}

// acquire keeps the files mapped until users.Done. It does not block, so a callback of Scan may call back into
// a DB that is being closed: it gets ErrClosed.
func (db *DB) acquire() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return ErrClosed
	}
	db.users.Add(1)
	return nil
}
