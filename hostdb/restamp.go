package hostdb

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A box whose clock ran ahead while it was cut off has operations that the others hold aside, and takes no writes itself. Restamp takes
// those operations out of the replica and makes new ones of them under the corrected clock. Nobody else has seen them, so nobody
// can miss them.

// Restamping says what Restamp shall take.
type Restamping struct {
	// Held is the newest operation of an origin that any other member holds; nil when there is no other member.
	Held func(origin uint64) uint64
	// All takes every operation of this node that nobody else holds; else only those whose stamps are ahead of the clock.
	All bool
}

// Restamped is what Restamp did.
type Restamped struct {
	At time.Time // when, to the millisecond; no two have the same
	// Moved are the operations that were made anew, in order.
	Moved []Move
	// Left are the effects that were not: others wrote in their place meanwhile.
	Left []Left
	// Removed are the raw operations that were taken out, in order.
	Removed [][]byte
}

// Move is an operation that was made anew.
type Move struct {
	Old, New  Stamp // New is zero when none of its effects was kept
	User, Log string
}

// Left is an effect that was not made anew, with its value.
type Left struct {
	Revision Stamp // of the operation that was taken out
	Effect   Effect
	Why      string
}

// Restamp takes the operations of this node that nobody else holds and whose stamps are ahead of the clock out of this replica, and
// submits each again, in order, under the clock as it is now; user, log and source stay. An effect is kept where the stamp that it
// replaced still stands, and left out where others wrote meanwhile. Other writes wait until it is done. A crash leaves it
// undone or, at the next opening, done; what it did is kept, see Restamps.
//
// ErrClock while this box's clock is still wrong, or when stamps of others are ahead of it too. ErrUnavailable while this node still
// fetches history, ErrReadOnly in read-only mode. With nothing to take it does nothing.
func (s *Store) Restamp(ctx context.Context, what Restamping) (Restamped, error) {
	if err := s.checkSkew(); err != nil {
		return Restamped{}, err
	}
	s.filling.Lock()
	defer s.filling.Unlock()
	s.lockAlone()
	defer s.unlockAlone()
	if err := s.writableLocked(); err != nil {
		return Restamped{}, err
	}
	if n := s.fillingLocked(); n > 0 {
		return Restamped{}, refuse(ErrUnavailable, "this node still fetches history: %d operations to go; restamp then", n)
	}
	if on, why := (View{s.head}).ReadOnly(); on {
		return Restamped{}, refuse(ErrReadOnly, "HostDB is in read-only mode: %s", why)
	}
	if err := ctx.Err(); err != nil {
		return Restamped{}, err
	}
	p := &restamp{store: s, what: what, r: reading{s.storage, View{s.head}}, now: s.cfg.Clock.Now(), removed: map[Stamp]bool{}, cuts: map[uint64]head{}}
	if err := p.prepare(ctx); err != nil {
		return Restamped{}, fmt.Errorf("restamp: %w", err)
	}
	if len(p.ops) == 0 {
		return Restamped{}, nil
	}
	puts, err := p.rows()
	if err != nil {
		return Restamped{}, fmt.Errorf("restamp: %w", err)
	}
	var l loaded
	if err = storePlan(s.storage, puts); err == nil {
		l, err = load(s.storage)
	}
	if err != nil {
		s.failLocked(err)
		return Restamped{}, refuse(ErrUnavailable, "restamp: it is not known whether it was done: %v", err)
	}
	s.clock = hybridClock{}
	s.takeLocked(l)
	if n := len(p.made); n > 0 {
		last := p.made[n-1]
		s.run = run{last.Origin, last.Seq, last.Hash()}
	}
	s.cfg.Logger.Warn("operations restamped", "operations", len(p.ops), "left_out", len(p.out.Left))
	return p.out, nil
}

// restamp is one Restamp under way.
type restamp struct {
	store *Store
	what  Restamping
	r     reading
	now   time.Time

	ops     []*Operation // what is taken out, oldest first
	removed map[Stamp]bool
	cuts    map[uint64]head // what remains of their origins
	numbers map[Stamp]uint64
	seen    map[Stamp]tree[uint64, uint64] // what its writer had seen of the origins that wrote since

	state *snapshot // without what is taken out, and with what is made anew
	made  []*Operation
	renew map[Stamp]Stamp // old -> new
	out   Restamped
}

// prepare finds what to take out and makes it anew, in memory.
func (p *restamp) prepare(ctx context.Context) error {
	if err := p.find(ctx); err != nil || len(p.ops) == 0 {
		return err
	}
	newest, err := p.newestLeft()
	if err != nil {
		return err
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	touched := map[string]*folding{}
	for _, op := range p.ops {
		for i := range op.Effects {
			x := &op.Effects[i]
			touched[id(x.NS, x.Key)] = nil
		}
	}
	if err := p.r.refold(ctx, touched, latest, func(at Stamp) bool { return p.removed[at] }); err != nil {
		return err
	}
	state := *p.store.head
	p.state = &state
	p.state.replaceAll(touched)
	for key, f := range touched {
		if f == nil { // nobody else has ever written to it
			p.state.entries = p.state.entries.delete(key)
		}
	}
	p.renewAll(newest)
	return nil
}

// find collects the operations of this node that nobody else holds, as far as they are ahead: of each run the end.
func (p *restamp) find(ctx context.Context) error {
	h, err := loadHorizon(p.r.st)
	if err != nil {
		return err
	}
	limit := TimeOf(p.now.Add(maxLocalLead))
	for origin, is := range p.store.head.vector.all() {
		if is.node != p.store.cfg.NodeID {
			continue
		}
		start := p.store.logs[origin]
		from := start.low
		if p.what.Held != nil {
			from = max(from, p.what.Held(origin))
		}
		rest := head{seq: start.low, time: h.at.Time, hash: start.hash, node: is.node}
		if from > start.low && from < is.seq {
			op, err := p.read(origin, from)
			if err != nil {
				return err
			}
			rest = head{op.Seq, op.Time, op.Hash(), is.node}
		}
		taken := false
		for seq := from + 1; seq <= is.seq; seq++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			op, err := p.read(origin, seq)
			if err != nil {
				return err
			}
			if !taken && !p.what.All && op.Time <= limit {
				rest = head{op.Seq, op.Time, op.Hash(), is.node}
				continue
			}
			if !op.known() {
				return refuse(ErrNotAllowed, "revision %s was written by a newer hostmesh: install that again first", op.Stamp())
			}
			taken = true
			p.ops = append(p.ops, op)
			p.removed[op.Stamp()] = true
		}
		if taken {
			p.cuts[origin] = rest
		}
	}
	slices.SortFunc(p.ops, func(a, b *Operation) int { return a.Stamp().Compare(b.Stamp()) })
	return nil
}

func (p *restamp) read(origin, seq uint64) (*Operation, error) {
	raw, err := readOp(p.r.st, origin, seq)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("operation %d of origin %016x is missing", seq, origin)
	}
	return ParseOperation(bytes.Clone(raw))
}

// newestLeft is the newest stamp that remains. Nothing can be stamped anew while that is ahead of the clock.
func (p *restamp) newestLeft() (newest Time, err error) {
	node := ""
	for origin, is := range p.store.head.vector.all() {
		if cut, ok := p.cuts[origin]; ok {
			is = cut
		}
		if newest < is.time {
			newest, node = is.time, is.node
		}
	}
	if lead := newest.Wall().Sub(p.now); lead > maxLocalLead {
		return 0, refuse(ErrClock, "operations of node %s that others hold, or that were not asked for, are stamped %s ahead of this box's clock: "+
			"correct the clock if it is behind; else wait until it has passed them", node, lead.Round(time.Millisecond))
	}
	return newest, nil
}

// look finds in the apply log what the writer of each operation had seen.
func (p *restamp) look(ctx context.Context) error {
	type line struct{ number, origin, seq uint64 }
	var lines []line
	bySeq := map[Link]*Operation{}
	for _, op := range p.ops {
		bySeq[Link{Origin: op.Origin, Seq: op.Seq}] = op
	}
	left := len(p.ops)
	err := p.r.st.ScanBack([]byte{'a'}, nil, func(key, value []byte) error {
		l := line{binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(value[8:]), binary.BigEndian.Uint64(value[16:])}
		lines = append(lines, l)
		if bySeq[Link{Origin: l.origin, Seq: l.seq}] != nil {
			left--
		}
		if left == 0 {
			return errEnough
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	slices.Reverse(lines)
	var seen tree[uint64, uint64]
	for _, l := range lines {
		if _, ok := seen.get(l.origin); !ok && bySeq[Link{Origin: l.origin, Seq: l.seq}] == nil && l.seq > 0 {
			seen = seen.set(l.origin, l.seq-1)
		}
	}
	p.numbers, p.seen = map[Stamp]uint64{}, map[Stamp]tree[uint64, uint64]{}
	for _, l := range lines {
		op := bySeq[Link{Origin: l.origin, Seq: l.seq}]
		if op == nil {
			seen = seen.set(l.origin, l.seq)
			continue
		}
		p.numbers[op.Stamp()], p.seen[op.Stamp()] = l.number, seen
	}
	return nil
}

// rows are what turns the storage into that of a replica which never had the old operations.
func (p *restamp) rows() ([]Put, error) {
	st := p.r.st
	var puts []Put
	drop := func(key []byte) { puts = append(puts, Put{key, nil}) }
	for _, op := range p.ops {
		drop(opKey(op.Origin, op.Seq))
		drop(stampKey(op.Stamp()))
		if n, ok := p.numbers[op.Stamp()]; ok {
			drop(rowKey('a', n))
		}
		for _, k := range keysOf(op) {
			drop(historyKey(k.ns, k.key, op.Stamp()))
		}
		err := st.Scan(rowKey('c', op.Origin, op.Seq), nil, func(key, _ []byte) error { drop(bytes.Clone(key)); return nil })
		if err != nil {
			return nil, err
		}
	}
	for origin, rest := range p.cuts {
		if rest.seq == 0 {
			drop(rowKey('v', origin))
			continue
		}
		b, err := closeRow(appendHeadRow(openRow(96), headRow{Seq: rest.seq, Time: rest.time, Hash: rest.hash[:], Node: rest.node}))
		if err != nil {
			return nil, err
		}
		puts = append(puts, Put{rowKey('v', origin), b})
	}
	number := p.store.head.applied
	for _, op := range p.made {
		number++
		log, err := logPuts(op, op.Hash(), p.store.cfg.NodeID, number, p.now)
		if err != nil {
			return nil, err
		}
		if maxBytes, _ := st.MaxBatch(); len(op.raw) > maxBytes/4 {
			n := uint64(0)
			for part := range slices.Chunk(op.raw, maxBytes/4) {
				puts = append(puts, Put{rowKey('c', op.Origin, op.Seq, n), part})
				n++
			}
			log[0].Value = append([]byte{1}, u64(n)...)
		}
		puts = append(puts, log...)
		for _, k := range keysOf(op) {
			puts = append(puts, Put{historyKey(k.ns, k.key, op.Stamp()), u64(op.Seq)})
		}
	}
	_, registers, err := differences(p.store.head, p.state)
	if err != nil {
		return nil, err
	}
	puts = append(append(puts, registers...), appliedPut(number))
	record, err := p.record()
	if err != nil {
		return nil, err
	}
	return append(puts, record...), nil
}

func keysOf(op *Operation) []keyName {
	var keys []keyName
	for i := range op.Effects {
		if x := &op.Effects[i]; x.foldable() {
			keys = append(keys, keyName{x.NS, x.Key})
		}
	}
	slices.SortFunc(keys, func(a, b keyName) int { return cmp.Or(strings.Compare(a.ns, b.ns), strings.Compare(a.key, b.key)) })
	return slices.Compact(keys)
}

// restampedRow is the stored form of a Restamped, in x rows: its time, the number of a part.
type restampedRow struct {
	Moved   []Move   `cbor:"1,keyasint,omitempty"`
	Left    []Left   `cbor:"2,keyasint,omitempty"`
	Removed [][]byte `cbor:"3,keyasint"`
}

// record keeps what was done, with the operations that were taken out: what was left out must not be lost with this process.
func (p *restamp) record() ([]Put, error) {
	ms := uint64(p.now.UnixMilli())
	err := p.r.st.ScanBack([]byte{'x'}, nil, func(key, _ []byte) error {
		ms = max(ms, binary.BigEndian.Uint64(key[1:])+1)
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	p.out.At = time.UnixMilli(int64(ms))
	for _, op := range p.ops {
		p.out.Removed = append(p.out.Removed, op.raw)
	}
	b, err := codec.enc.Marshal(restampedRow{p.out.Moved, p.out.Left, p.out.Removed})
	if err != nil {
		return nil, fmt.Errorf("encode the record: %w", err)
	}
	var puts []Put
	maxBytes, _ := p.r.st.MaxBatch()
	for part := range slices.Chunk(append([]byte{rowPlain}, b...), min(partBytes, maxBytes/4)) {
		puts = append(puts, Put{rowKey('x', ms, uint64(len(puts))), part})
	}
	return puts, nil
}

// Restamps are the records of what Restamp did here, oldest first, until ForgetRestamps.
func (s *Store) Restamps(ctx context.Context) (list []Restamped, err error) {
	r, err := s.reading()
	if err != nil {
		return nil, err
	}
	var at uint64
	var whole []byte
	end := func() error {
		if whole == nil {
			return nil
		}
		var row restampedRow
		if err := decodeRow(rowKey('x', at), whole, &row); err != nil {
			return err
		}
		list = append(list, Restamped{time.UnixMilli(int64(at)), row.Moved, row.Left, row.Removed})
		whole = nil
		return ctx.Err()
	}
	err = r.st.Scan([]byte{'x'}, nil, func(key, value []byte) error {
		if ms := binary.BigEndian.Uint64(key[1:]); ms != at {
			if err := end(); err != nil {
				return err
			}
			at = ms
		}
		whole = append(whole, value...)
		return nil
	})
	if err == nil {
		err = end()
	}
	if err != nil {
		return nil, fmt.Errorf("read what was restamped: %w", err)
	}
	return list, nil
}

// ForgetRestamps removes the records of Restamps up to a time.
func (s *Store) ForgetRestamps(ctx context.Context, until time.Time) error {
	s.mu.Lock()
	st, failed := s.storage, s.writableLocked()
	s.mu.Unlock()
	if failed != nil {
		return failed
	}
	var drop []Put
	err := st.Scan([]byte{'x'}, nil, func(key, _ []byte) error {
		if int64(binary.BigEndian.Uint64(key[1:])) > until.UnixMilli() {
			return errEnough
		}
		drop = append(drop, Put{bytes.Clone(key), nil})
		return ctx.Err()
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil {
		err = commitSplit(st, drop, func(puts []Put) error { return s.commitSure(st, puts) })
	}
	return s.settleStep(st, err, "forget what was restamped")
}
