package hostdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"time"
)

// Retention says what may be dropped from history.
type Retention struct {
	// Until is the newest stamp that may go; see Policy. With the zero Stamp a retention that was interrupted is finished, and
	// nothing else is dropped.
	Until Stamp
	// Held is the newest operation of an origin that every member holds which was not removed from the mesh; nil when there is no
	// other member.
	Held func(origin uint64) uint64
	// Settled reports whether nothing with a stamp up to this one can arrive any more. What is settled for a stamp is so for those
	// below it. nil when there is no other member.
	Settled func(Stamp) bool
}

// Bounds of what a retention has in memory at a time.
const (
	dropSlice     = 512     // operations that are removed in one go
	foldKeys      = 4096    // keys that are folded before they are written
	foldRegisters = 200_000 // registers of these
)

// Retain drops operations from the log, and keeps their fold: the state of the present and every answer about what is younger
// stay as they are. Everything up to one stamp goes: the newest up to which it may. Who asks for older history is told ErrDropped. It
// returns how many operations it removed.
//
// It may take minutes for a large log. Reads and writes go on. When ctx ends, the storage fails or the process dies, what is left to do
// is done by the next call. ErrUnavailable while this node still fetches history.
func (s *Store) Retain(ctx context.Context, p Retention) (dropped int, err error) {
	s.filling.Lock() // nobody else changes where logs begin
	defer s.filling.Unlock()
	r, err := s.reading()
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	st, failed := s.storage, s.writableLocked()
	s.mu.Unlock()
	if failed != nil {
		return 0, failed
	}
	d := &dropper{store: s, st: st, r: r, p: p}
	err = d.run(ctx)
	if d.count > 0 {
		s.cfg.Logger.Info("history dropped", "operations", d.count, "before", d.h.at.Time.Wall().UTC().Format(time.RFC3339))
	}
	return d.count, s.settleStep(st, err, "drop history")
}

// dropper is one Retain under way.
type dropper struct {
	store *Store
	st    Storage
	r     reading
	p     Retention
	h     horizon
	count int
}

func (d *dropper) run(ctx context.Context) (err error) {
	if d.h, err = loadHorizon(d.r.st); err != nil {
		return err
	}
	if d.h.phase != retained { // interrupted
		if err := d.finish(ctx); err != nil {
			return err
		}
	}
	to, err := d.choose(ctx)
	if err != nil || to.Compare(d.h.at) <= 0 {
		return err
	}
	d.h = horizon{to, foldingPhase}
	if err := d.mark(); err != nil {
		return err
	}
	return d.finish(ctx)
}

func (d *dropper) commit(puts []Put) error { return d.store.commitSure(d.st, puts) }

// mark stores the horizon and its phase. From then on nobody is shown what was before it.
func (d *dropper) mark() error { return d.commit([]Put{d.h.put()}) }

// finish does what is left to do for the horizon.
func (d *dropper) finish(ctx context.Context) error {
	if d.h.phase == foldingPhase {
		lows, err := d.fold(ctx)
		if err != nil {
			return err
		}
		if err := d.moveLogs(lows); err != nil {
			return err
		}
		d.h.phase = dropping
		if err := d.mark(); err != nil {
			return err
		}
	}
	if err := d.drop(ctx); err != nil {
		return err
	}
	d.h.phase = retained
	return d.mark()
}

// choose finds the newest stamp up to which everything may go.
func (d *dropper) choose(ctx context.Context) (to Stamp, err error) {
	unknown, err := d.oldestUnknown()
	if err != nil {
		return Stamp{}, err
	}
	var slice []Stamp // not yet known to be settled
	settled := func() (all bool) {
		n := len(slice)
		if d.p.Settled != nil && n > 0 && !d.p.Settled(slice[n-1]) {
			n = sort.Search(n, func(i int) bool { return !d.p.Settled(slice[i]) })
		}
		if n > 0 {
			to = slice[n-1]
		}
		all = n == len(slice)
		slice = slice[:0]
		return all
	}
	err = d.r.st.Scan([]byte{'t'}, nil, func(key, seq []byte) error {
		at := stampOf(key)
		n := binary.BigEndian.Uint64(seq)
		switch {
		case d.p.Until.Less(at), n > d.r.view.Seq(at.Origin), d.p.Held != nil && n > d.p.Held(at.Origin), !at.Less(unknown):
			return errEnough
		}
		if slice = append(slice, at); len(slice) == 4096 && !settled() {
			return errEnough
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Stamp{}, err
	}
	settled()
	return to, nil
}

// oldestUnknown is the oldest operation that this build could not fold: it must be there after the upgrade.
func (d *dropper) oldestUnknown() (Stamp, error) {
	oldest := latest
	err := d.st.Scan([]byte{'u'}, nil, func(key, _ []byte) error {
		raw, err := readOp(d.st, binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:]))
		if err != nil || raw == nil {
			return err
		}
		op, err := ParseOperation(bytes.Clone(raw))
		if err != nil {
			return err
		}
		if op.Stamp().Less(oldest) {
			oldest = op.Stamp()
		}
		return nil
	})
	return oldest, err
}

// fold folds what is held up to the horizon into the base, and returns where the logs begin after it: of each origin the first of its
// operations, as far as they are old and held by all. What is old and came late, or is not held by all, stays in the log as well.
func (d *dropper) fold(ctx context.Context) (lows map[uint64]uint64, err error) {
	d.store.mu.Lock()
	lows = make(map[uint64]uint64, len(d.store.logs))
	for origin, l := range d.store.logs {
		lows[origin] = l.low
	}
	d.store.mu.Unlock()
	folds := map[string]*folding{}
	registers := 0
	write := func() error {
		w := &baseWriter{st: d.st, commit: d.commit}
		for _, f := range folds {
			if err := w.put(f); err != nil {
				return err
			}
		}
		clear(folds)
		registers = 0
		return w.flush()
	}
	err = d.slices(ctx, func(at Stamp, seq uint64) error {
		if seq > d.r.view.Seq(at.Origin) {
			return nil // arrived since: it stays in the log
		}
		if lows[at.Origin]+1 == seq && (d.p.Held == nil || seq <= d.p.Held(at.Origin)) {
			lows[at.Origin] = seq
		}
		op, err := d.operation(at.Origin, seq)
		if err != nil || op == nil {
			return err
		}
		for i := range op.Effects {
			x := &op.Effects[i]
			if !x.foldable() {
				continue
			}
			key := id(x.NS, x.Key)
			f := folds[key]
			if f == nil {
				if f, err = baseOf(d.st, key); err != nil {
					return err
				}
				registers += len(f.leaves) + len(f.memberBefore)
				f.memberBefore = nil // those that are stored stay as they are
				folds[key] = f
			}
			f.effect(at, x)
			registers++
		}
		if len(folds) >= foldKeys || registers >= foldRegisters {
			return write()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lows, write()
}

// slices calls fn for each operation of the log up to the horizon, in the order of stamps. fn may change the storage.
func (d *dropper) slices(ctx context.Context, fn func(at Stamp, seq uint64) error) error {
	type line struct {
		at  Stamp
		seq uint64
	}
	var from []byte
	for {
		var lines []line
		err := d.st.Scan([]byte{'t'}, from, func(key, seq []byte) error {
			at := stampOf(key)
			if d.h.at.Less(at) || len(lines) == dropSlice {
				return errEnough
			}
			lines = append(lines, line{at, binary.BigEndian.Uint64(seq)})
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		for _, l := range lines {
			if err := fn(l.at, l.seq); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil || len(lines) < dropSlice {
			return err
		}
		from = append(stampKey(lines[len(lines)-1].at), 0)
	}
}

// operation reads an operation; nil when it is not held.
func (d *dropper) operation(origin, seq uint64) (*Operation, error) {
	raw, err := readOp(d.st, origin, seq)
	if err != nil || raw == nil {
		return nil, err
	}
	return ParseOperation(bytes.Clone(raw))
}

// moveLogs stores where the logs begin. What is before is not sent to others any more.
func (d *dropper) moveLogs(lows map[uint64]uint64) error {
	moved := map[uint64]logStart{}
	var puts []Put
	for origin, low := range lows {
		d.store.mu.Lock()
		was := d.store.logs[origin].low
		d.store.mu.Unlock()
		if low == was {
			continue
		}
		op, err := d.operation(origin, low)
		if err != nil {
			return err
		}
		if op == nil {
			return fmt.Errorf("operation %d of origin %016x is missing", low, origin)
		}
		moved[origin] = logStart{low: low, hash: op.Hash()}
		puts = append(puts, moved[origin].put(origin))
	}
	if err := commitSplit(d.st, puts, d.commit); err != nil {
		return err
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	if d.store.storage != d.st {
		return refuse(ErrUnavailable, "the storage was closed meanwhile")
	}
	for origin, l := range moved {
		d.store.setLogLocked(origin, l)
	}
	return nil
}

// drop removes what is before the beginning of each log: the rows by which an operation is found, then itself, then its parts and its
// line in the apply log. Each of these steps finds by itself what it has left to do.
func (d *dropper) drop(ctx context.Context) error {
	d.store.mu.Lock()
	logs := make(map[uint64]logStart, len(d.store.logs))
	for origin, l := range d.store.logs {
		logs[origin] = l
	}
	d.store.mu.Unlock()
	var puts []Put
	flush := func() error {
		err := commitSplit(d.st, puts, d.commit)
		puts = nil
		return err
	}
	err := d.slices(ctx, func(at Stamp, seq uint64) error {
		if seq > logs[at.Origin].low {
			return nil
		}
		op, err := d.operation(at.Origin, seq)
		if err != nil {
			return err
		}
		if op != nil {
			d.count++
			last := ""
			for i := range op.Effects {
				if x := &op.Effects[i]; x.foldable() && id(x.NS, x.Key) != last {
					last = id(x.NS, x.Key)
					puts = append(puts, Put{historyKey(x.NS, x.Key, at), nil})
				}
			}
			puts = append(puts, Put{opKey(at.Origin, seq), nil})
		}
		puts = append(puts, Put{stampKey(at), nil})
		if len(puts) >= dropSlice {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for origin, l := range logs {
		err := d.st.Scan(rowKey('c', origin), nil, func(key, _ []byte) error {
			if binary.BigEndian.Uint64(key[9:]) > l.low {
				return errEnough
			}
			puts = append(puts, Put{bytes.Clone(key), nil})
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	err = scanRows(d.st, 'a', func(rows []storedRow) error {
		for _, row := range rows {
			if origin := binary.BigEndian.Uint64(row.value[8:]); origin != 0 && binary.BigEndian.Uint64(row.value[16:]) <= logs[origin].low {
				puts = append(puts, Put{row.key, nil})
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return dropParts(d.st, d.commit)
}
