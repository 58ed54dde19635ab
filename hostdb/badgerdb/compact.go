package badgerdb

import (
	"log/slog"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"
)

const (
	// compactAt is how many tables of level 0 start a compaction, at the least. Each is a full memtable: an import of 10,000
	// hosts makes three, and is over before anything is merged.
	compactAt = 4

	// waitAt is how many of them make writers wait for it, at the least.
	waitAt = 8

	// mergeShare is the part of all data that level 0 may hold: a merge rewrites everything, so it must not come before that
	// is worth it. Then each byte is rewritten some mergeShare times, however much there is.
	mergeShare = 4

	// maxLevel0 is how many tables level 0 may hold, since a lookup asks each of them: of full memtables that is
	// reached at a gigabyte or so.
	maxLevel0 = 48

	// neverStall is Badger's own limit, at which it stops in the middle of a write, and of an Open, until one of its
	// compactors has made room. It has none, so this is far above what waitAt and a row of crashes leave behind.
	neverStall = 1000
)

// levels is how much there is to merge.
type levels struct {
	tables int   // in level 0, each a memtable or less
	bytes  int64 // of these
	below  int64 // bytes of the other levels
}

// due reports whether the tables of level 0 are to be merged with the others.
func (l levels) due() bool {
	return l.tables >= compactAt && (l.bytes >= l.below/mergeShare || l.tables >= maxLevel0)
}

// full reports whether writers wait for that.
func (l levels) full() bool {
	return l.tables >= waitAt && (l.bytes >= l.below/mergeShare*2 || l.tables >= maxLevel0+waitAt)
}

// compactor merges the tables of level 0 into the others. Badger's own compactors look for work twenty times a second
// each, which was most of what a resting agent cost. But only a full memtable makes work, and the writer sees it.
type compactor struct {
	log     *slog.Logger
	levels  func() levels
	flatten func() error // merges all levels into one
	merging sync.Mutex   // held while flatten runs: two at a time take one another's tables

	poke     chan struct{} // one slot: there may be work
	stop     chan struct{}
	stopOnce sync.Once
	exited   chan struct{}

	mu      sync.Mutex
	changed sync.Cond // on mu: a compaction ended
	giveWay bool      // the last compaction made no room, or there will be none: nobody may wait for it
}

// newCompactor starts a compactor. Space says whether so many bytes may be written: a merge writes everything anew before it removes
// the old tables, through memory maps that end the process where there is no room.
func newCompactor(bdb *badger.DB, log *slog.Logger, space func(more int64) error) *compactor {
	return startCompactor(log,
		func() (l levels) {
			for _, at := range bdb.Levels() {
				if at.Level == 0 {
					l.tables, l.bytes = at.NumTables, at.Size
				} else {
					l.below += at.Size
				}
			}
			return l
		},
		func() (err error) {
			defer guard(&err)()
			var all int64
			for _, at := range bdb.Levels() {
				all += at.Size
			}
			if err := space(all); err != nil {
				return err
			}
			return classify(bdb.Flatten(1))
		})
}

func startCompactor(log *slog.Logger, levels func() levels, flatten func() error) *compactor {
	c := &compactor{log: log, levels: levels, flatten: flatten,
		poke: make(chan struct{}, 1), stop: make(chan struct{}), exited: make(chan struct{})}
	c.changed.L = &c.mu
	c.look() // a crash may have left tables
	go c.run()
	return c
}

// look makes the compactor look for work. It is called when Badger has left a memtable behind. The table made of it
// may appear after the look, and is then found by the next one: at most the two or three that Badger holds at a time.
func (c *compactor) look() {
	select {
	case c.poke <- struct{}{}:
	default: // it will look anyway
	}
}

// wait blocks a writer while level 0 is too long, but not for a compactor that fails or is closed.
func (c *compactor) wait() {
	for c.levels().full() {
		c.look()
		c.mu.Lock()
		// Asked again under the lock, because a compaction that ended before it has called already.
		wait := !c.giveWay && c.levels().full()
		if wait {
			c.changed.Wait()
		}
		c.mu.Unlock()
		if !wait {
			return
		}
	}
}

func (c *compactor) run() {
	defer close(c.exited)
	defer c.ended(true)
	for {
		select {
		case <-c.stop:
			return
		case <-c.poke:
		}
		pause := time.Second
		for before := c.levels(); before.due(); before = c.levels() {
			err := c.merge()
			after := c.levels()
			stuck := err != nil || after.full() && after.tables >= before.tables
			c.ended(stuck)
			if err != nil {
				c.log.Warn("cannot compact, will try again", "err", err)
			}
			if !stuck {
				select {
				case <-c.stop:
					return
				default:
					continue
				}
			}
			select {
			case <-c.stop:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Minute) // a disk without room may stay so
		}
	}
}

// merge merges all levels into one, alone.
func (c *compactor) merge() error {
	c.merging.Lock()
	defer c.merging.Unlock()
	return c.flatten()
}

func (c *compactor) ended(giveWay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveWay = giveWay
	c.changed.Broadcast()
}

// close waits for a compaction under way. It is idempotent.
func (c *compactor) close() {
	c.stopOnce.Do(func() { close(c.stop) })
	<-c.exited
}
