package integration

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"hostmesh/lbd/mysqlha/mariadbtest"
)

// fate is what a writer knows of its row.
type fate uint8

const (
	unsent  fate = iota // nobody was asked to write it yet
	unheard             // the answer was lost: it may be there, or not
	written             // it is there
	denied              // it is not
)

// row is one of the ledger; its id is its place.
type row struct {
	fate fate
	at   time.Duration // into the run, when that was known
}

// pause is a time without an acknowledged row.
type pause struct{ from, to time.Time }

// stormWriters is how many write at once. Each has a connection of its own, so that what one of them waits for, as the kernel's sending anew, holds up no other.
const stormWriters = 24

// What a writer waits for.
const (
	stormDial     = 100 * time.Millisecond
	stormPatience = 500 * time.Millisecond
)

// stormLedger writes rows through the address of the primary, each once and each a transaction of its own, and keeps what became of them.
type stormLedger struct {
	s     *dbSite
	begin time.Time
	stop  atomic.Bool
	wg    sync.WaitGroup
	turns chan struct{}

	mu     sync.Mutex // guards the fields below
	rows   []row
	counts [4]int
	last   time.Time // when a row was acknowledged
	pauses []pause   // of more than pauseNoted, by time
	why    map[string]int
	late   int // turns that no writer took in time
}

const pauseNoted = 10 * time.Millisecond

func newStormLedger(s *dbSite, rate int) *stormLedger {
	l := &stormLedger{s: s, begin: time.Now(), turns: make(chan struct{}, rate/4+1), why: map[string]int{}}
	for range stormWriters {
		l.wg.Go(l.write)
	}
	l.wg.Go(func() { l.pace(rate) })
	s.t.Cleanup(l.end)
	return l
}

func (l *stormLedger) end() {
	l.stop.Store(true)
	l.wg.Wait()
}

// pace gives turns to the writers, so many a second. Those that none of them takes are given up.
func (l *stormLedger) pace(rate int) {
	defer close(l.turns)
	begin, given := time.Now(), 0
	for ; !l.stop.Load(); time.Sleep(5 * time.Millisecond) {
		for due := int(time.Since(begin).Seconds() * float64(rate)); given < due; given++ {
			select {
			case l.turns <- struct{}{}:
			default:
				l.mu.Lock()
				l.late++
				l.mu.Unlock()
			}
		}
	}
}

func (l *stormLedger) write() {
	for !l.stop.Load() {
		conn, err := l.s.dials(writeVIP, stormDial, stormPatience)
		if err != nil {
			l.ends(-1, unsent, reasonOf(err))
			time.Sleep(20 * time.Millisecond)
			continue
		}
		for range l.turns {
			id := l.next()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			_, err := conn.(driver.ExecerContext).ExecContext(ctx, "INSERT INTO ledger VALUES (?, @@server_id)", []driver.NamedValue{{Ordinal: 1, Value: id}})
			cancel()
			if err == nil {
				l.ends(id, written, "")
				continue
			}
			var said *mysql.MySQLError
			if errors.As(err, &said) && said.Number == 1290 { // it is read-only, and rolls back
				l.ends(id, denied, "refused: read-only")
			} else {
				l.ends(id, unheard, "unknown outcome: "+reasonOf(err))
			}
			break
		}
		_ = conn.Close()
	}
}

// reasonOf is an error without what is of one try alone.
func reasonOf(err error) string {
	var said *mysql.MySQLError
	if errors.As(err, &said) {
		return fmt.Sprintf("error %d", said.Number)
	}
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return text
}

// next enters a row that is about to be written.
func (l *stormLedger) next() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows = append(l.rows, row{fate: unheard})
	l.counts[unheard]++
	return int64(len(l.rows) - 1)
}

// ends enters what became of it; id -1 = of a try to connect.
func (l *stormLedger) ends(id int64, o fate, why string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if why != "" {
		l.why[why]++
	}
	if id < 0 {
		return
	}
	l.counts[unheard]--
	l.counts[o]++
	l.rows[id] = row{fate: o, at: now.Sub(l.begin)}
	if o != written {
		return
	}
	if !l.last.IsZero() && now.Sub(l.last) > pauseNoted {
		l.pauses = append(l.pauses, pause{l.last, now})
	}
	l.last = now
}

func (l *stormLedger) figures() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d rows acknowledged, %d refused, %d of unknown outcome, %d not sent", l.counts[written], l.counts[denied], l.counts[unheard], l.late)
}

func (l *stormLedger) ackedRows() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[written]
}

// longest is the longest pause that has to do with a time; one that goes on counts until now.
func (l *stormLedger) longest(from, to time.Time) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range slices.Backward(l.pauses) {
		if p.to.Before(from) {
			break
		}
		if p.from.Before(to) {
			longest = max(longest, p.to.Sub(p.from))
		}
	}
	if l.last.Before(to) {
		longest = max(longest, to.Sub(l.last))
	}
	return longest
}

// known are the outcomes of rows from an id on.
func (l *stormLedger) known(from int) []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.rows[min(from, len(l.rows)):])
}

// missing compares what a server has, from an id on, with a part of the ledger that was taken before: rows that were acknowledged and are not there, and
// rows that were refused and are.
func missing(ctx context.Context, db *mariadbtest.Server, from int, rows []row) (lost, wrong []int64, err error) {
	has := make([]bool, len(rows))
	const step = 200_000 // at once: who reads long holds up what a server purges
	for at := 0; at < len(rows); at += step {
		found, err := db.Root().QueryContext(ctx, "SELECT id FROM shop.ledger WHERE id >= ? AND id < ?", from+at, from+min(at+step, len(rows)))
		if err != nil {
			return nil, nil, fmt.Errorf("rows of %s: %w", db.Name, err)
		}
		for found.Next() {
			var id int64
			if err := found.Scan(&id); err != nil {
				return nil, nil, errors.Join(err, found.Close())
			}
			has[int(id)-from] = true
		}
		if err := errors.Join(found.Err(), found.Close()); err != nil {
			return nil, nil, fmt.Errorf("rows of %s: %w", db.Name, err)
		}
	}
	for i, r := range rows {
		switch {
		case r.fate == written && !has[i]:
			lost = append(lost, int64(from+i))
		case r.fate == denied && has[i]:
			wrong = append(wrong, int64(from+i))
		}
	}
	return lost, wrong, nil
}
