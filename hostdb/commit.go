package hostdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrBusy is returned when more operations wait for the disk than may.
var ErrBusy = errors.New("store is busy")

// ErrGap is wrapped by Apply when an operation's predecessor is not held yet.
var ErrGap = errors.New("operations are missing before this one")

// ErrFuture is wrapped by Apply when an operation is stamped too far ahead of this box's clock.
var ErrFuture = errors.New("stamp is too far ahead")

// ErrFork is wrapped by Apply when an operation does not continue the chain that is held of its origin.
var ErrFork = errors.New("origin's chain forks")

// Request says who writes and why.
type Request struct {
	User string
	Log  string // shown in history; not blank for people's writes, which rest checks
	// Allow decides whether User may write a part of a key; nil allows all. It is asked before anything is looked at,
	// also for each member list that a rename or delete of a host touches. Its error should wrap ErrDenied.
	Allow func(v View, ns, key string, what Resource) error
	// AllowData, when set, decides in Allow's place about the data of a key that is put or deleted as a whole: before is
	// what it was, after what it shall be, each maybe not there. Allow is then asked about writes at a path by the section
	// that they are in.
	AllowData func(v View, ns, key string, before, after Document) error
	// Acks is how many other boxes must hold the write before Update returns; 0 asks for one, for at most AckTimeout.
	Acks int
	// DryRun makes all checks and writes nothing; Commit.Effects says what would be done.
	DryRun bool
	// EvenReadOnly lets the write through while the mesh is read-only: the switch itself needs that.
	EvenReadOnly bool
	// Source is for writes that were first made elsewhere; nil for others.
	Source *Source
	// Override is why a protection is lifted by this write; "" lifts none. It is added to the log when it was needed.
	Override string
	// Lenient turns what the validator refuses into warnings. Imports use it: inventories are old.
	Lenient bool
}

// Commit tells what became of a write.
type Commit struct {
	Revision Stamp    // of the operation; zero when nothing changed
	Version  Version  // at or after which the write is visible here
	Acks     int      // boxes that hold it durably, this one included
	Warnings []string // what the validator wants a person to know
	Effects  []Effect // what the operation does, or would do in a dry run
}

// Changed reports whether the write made an operation. Writing what is there already makes none.
func (c Commit) Changed() bool { return !c.Revision.IsZero() }

// pending is an operation that waits to be durable.
type pending struct {
	op      *Operation
	hash    Hash
	state   *snapshot // after it
	touched []*folding
	done    chan struct{}
	err     error
}

// Update makes one operation of what fn does and returns when it is durable here and, if another box can be reached,
// there. fn runs alone; what it reads is the state its writes go on. Its error stops everything and comes back as it is.
// After an error nothing was written, except where the error says that the outcome is unknown.
func (s *Store) Update(ctx context.Context, req Request, fn func(*Tx) error) (Commit, error) {
	if n := len(req.Log) + len(req.Override); n > MaxLog {
		return Commit{}, refuse(ErrTooLarge, "a log message of %d bytes: at most %d are allowed", n, MaxLog)
	}
	if err := s.checkSkew(); err != nil {
		return Commit{}, err
	}
	if g := s.gate.Load(); g != nil {
		if err := (*g)(); err != nil {
			return Commit{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	p, tx, err := s.lockAndPrepare(req, fn)
	if err != nil || p == nil {
		version := View{s.head}.Version()
		s.mu.Unlock()
		if err != nil {
			return Commit{}, err
		}
		return Commit{Version: version, Acks: 1, Warnings: tx.warnings, Effects: tx.would}, nil
	}
	s.counts.LocalOps++
	s.enqueueLocked(p)
	s.flushOrWait(p) // unlocks
	if p.err != nil {
		return Commit{}, p.err
	}
	c := Commit{Revision: p.op.Stamp(), Version: View{p.state}.Version(), Acks: 1, Warnings: tx.warnings, Effects: p.op.Effects}
	if a := s.acker.Load(); a != nil {
		wait, cancel := context.WithTimeout(ctx, s.cfg.AckTimeout)
		c.Acks += (*a).Await(wait, p.op.Origin, p.op.Seq, max(1, req.Acks))
		cancel()
	}
	return c, nil
}

// lockAndPrepare takes mu and prepares; it returns with mu held. When fn panics it lets mu go: nothing was changed.
func (s *Store) lockAndPrepare(req Request, fn func(*Tx) error) (p *pending, tx *Tx, err error) {
	returned := false
	s.lockToWrite()
	defer func() {
		if !returned {
			s.mu.Unlock()
		}
	}()
	p, tx, err = s.prepareLocked(req, fn)
	returned = true
	return p, tx, err
}

// prepareLocked runs fn and seals its operation; p is nil when nothing changed.
func (s *Store) prepareLocked(req Request, fn func(*Tx) error) (*pending, *Tx, error) {
	if err := s.writableLocked(); err != nil {
		return nil, nil, err
	}
	if on, why := (View{s.head}).ReadOnly(); on && !req.EvenReadOnly {
		return nil, nil, refuse(ErrReadOnly, "HostDB is in read-only mode: %s", why)
	}
	now := s.cfg.Clock.Now()
	if lead := s.clock.ahead(now); lead > maxLocalLead {
		return nil, nil, refuse(ErrClock, "the newest stamp is %s ahead of this box's clock: writes wait until the clock has passed it; "+
			"correct the clock of this box, or of the one that wrote it", lead.Round(time.Millisecond))
	}
	if s.queued > maxQueued {
		return nil, nil, refuse(ErrBusy, "%d MiB of operations wait for the disk; try again", s.queued>>20)
	}
	tx := &Tx{view: View{s.head}, req: req, drafts: map[string]*draft{}}
	if err := fn(tx); err != nil {
		return nil, nil, err
	}
	if err := tx.check(s.cfg.Validator); err != nil {
		return nil, nil, err
	}
	if tx.lifted {
		req.Log += " (protection lifted: " + req.Override + ")"
	}
	own := s.run
	op := &Operation{Version: OperationVersion, Origin: own.origin, Seq: own.seq + 1, User: req.User, Log: req.Log, Source: req.Source}
	if own.origin == 0 {
		op.Origin, op.Seq, op.Node = newOrigin(), 1, s.cfg.NodeID
		if last, h, ok := s.lastOwnRunLocked(); ok {
			op.Prev, op.After = &Link{Origin: last, Seq: h.seq}, h.hash[:]
		}
	} else {
		op.After = own.hash[:]
	}
	before := s.clock
	op.Time = s.clock.next(now)
	if op.Effects = tx.effects(op.Stamp()); len(op.Effects) == 0 || req.DryRun {
		s.clock, tx.would = before, op.Effects
		return nil, tx, nil
	}
	op.seal()
	hash := op.Hash()
	state, touched := s.head.fold(op, hash)
	s.run = run{op.Origin, op.Seq, hash}
	return &pending{op: op, hash: hash, state: state, touched: touched, done: make(chan struct{})}, tx, nil
}

// lockToWrite takes mu, after those who want to write alone.
func (s *Store) lockToWrite() {
	s.mu.Lock()
	for s.alone > 0 {
		s.idle.Wait()
	}
}

// lockAlone takes mu when nothing is on its way to the disk, and keeps writers out until unlockAlone.
func (s *Store) lockAlone() {
	s.mu.Lock()
	s.alone++
	for s.flushing {
		s.idle.Wait()
	}
}

func (s *Store) unlockAlone() {
	s.alone--
	s.idle.Broadcast()
	s.mu.Unlock()
}

// lastOwnRunLocked is the newest run that this node made before this one.
func (s *Store) lastOwnRunLocked() (origin uint64, last head, ok bool) {
	for o, h := range s.head.vector.all() {
		if h.node == s.cfg.NodeID && (!ok || h.time > last.time) {
			origin, last, ok = o, h, true
		}
	}
	return origin, last, ok
}

// Apply takes operations of other replicas, in order within each origin, and returns when they are durable here.
// What is held already is skipped. It stops at the first that cannot be taken: ErrGap, ErrFuture, ErrFork, or what is
// no operation; those before it are kept. It never looks at permission, limits or validation: those bind at the origin.
func (s *Store) Apply(ctx context.Context, raws [][]byte) (applied int, err error) {
	ops, err := s.parseNew(raws)
	var last *pending
	var forked []byte
	s.lockToWrite()
	for _, op := range ops {
		p, refused := s.acceptLocked(op)
		if refused != nil {
			err, forked = refused, op.raw
			break
		}
		if p != nil {
			s.counts.RemoteOps++
			s.enqueueLocked(p)
			last = p
			applied++
		}
	}
	if last == nil {
		s.mu.Unlock()
	} else if s.flushOrWait(last); last.err != nil { // unlocks
		return 0, last.err
	}
	if errors.Is(err, ErrFork) {
		if kept := s.KeepFork(forked); kept != nil {
			err = fmt.Errorf("%w (and it cannot be kept aside: %w)", err, kept)
		}
	}
	return applied, err
}

// parseNew reads the operations that are not held yet, before the lock is taken: what comes twice costs nothing. Of an
// origin's newest the bytes are compared all the same, to see a fork. It stops at what is no operation.
func (s *Store) parseNew(raws [][]byte) ([]*Operation, error) {
	v := s.View()
	ops := make([]*Operation, 0, len(raws))
	for _, raw := range raws {
		origin, seq, err := PeekOperation(raw)
		if err != nil {
			return ops, err
		}
		if seq < v.Seq(origin) {
			continue
		}
		op, err := ParseOperation(raw)
		if err != nil {
			return ops, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func (s *Store) acceptLocked(op *Operation) (*pending, error) {
	if err := s.writableLocked(); err != nil {
		return nil, err
	}
	h, _ := s.head.vector.get(op.Origin)
	hash := op.Hash()
	switch {
	case op.Seq == h.seq && hash != h.hash || op.Seq == h.seq+1 && h.seq > 0 && string(op.After) != string(h.hash[:]):
		s.counts.Forks++
		return nil, refuse(ErrFork, "operation %d of origin %016x does not follow the one held here: two boxes write under one origin", op.Seq, op.Origin)
	case op.Seq <= h.seq:
		return nil, nil
	case op.Seq != h.seq+1:
		return nil, refuse(ErrGap, "operation %d of origin %016x came, %d is held", op.Seq, op.Origin, h.seq)
	}
	if now := s.cfg.Clock.Now(); op.Time > TimeOf(now.Add(maxRemoteLead)) {
		s.counts.HeldAside++
		return nil, refuse(ErrFuture, "operation %s is stamped %s ahead of this box's clock: held aside until the clock has passed it",
			op.Stamp(), op.Time.Wall().Sub(now).Round(time.Millisecond))
	}
	s.clock.see(op.Time)
	state, touched := s.head.fold(op, hash)
	return &pending{op: op, hash: hash, state: state, touched: touched, done: make(chan struct{})}, nil
}

func (s *Store) enqueueLocked(p *pending) {
	s.head = p.state
	s.queue = append(s.queue, p)
	s.queued += len(p.op.raw)
}

// flushOrWait makes p durable: the first to come writes for all that queue up meanwhile, so that they share an fsync.
// It is called with mu held and returns without it.
func (s *Store) flushOrWait(p *pending) {
	if s.flushing {
		s.mu.Unlock()
		<-p.done
		return
	}
	s.flushing = true
	s.flushUntil(p)
	<-p.done
}

// flushUntil writes what is queued until p is durable or has failed; what is left then, another goroutine writes: who writes for others shall not do so
// for ever. It is called with mu held, by whoever set flushing, and returns without it.
func (s *Store) flushUntil(p *pending) {
	for len(s.queue) > 0 && s.storage != nil {
		select {
		case <-p.done:
			go func() {
				s.mu.Lock()
				s.flushUntil(&pending{})
			}()
			s.mu.Unlock()
			return
		default:
		}
		batch, st, applied := s.queue, s.storage, s.view.Load().applied
		s.queue = nil
		s.mu.Unlock()
		n, err, sure := 0, s.space(), true
		if err == nil {
			n, err = s.write(st, batch, applied)
			sure = false
		}
		s.mu.Lock()
		s.settleLocked(batch, n, err, sure)
	}
	if s.storage == nil { // failed meanwhile
		s.settleLocked(s.queue, 0, s.failure, true)
		s.queue = nil
	}
	s.flushing = false
	s.idle.Broadcast()
	s.mu.Unlock()
}

// space is why the disk must not be written, looked at anew: it may have filled up since the last look.
func (s *Store) space() error {
	if s.cfg.Space == nil {
		return nil
	}
	return s.cfg.Space()
}

// settleLocked publishes the first n of batch and fails the others, if any, for err. Sure says that nothing of them was written.
func (s *Store) settleLocked(batch []*pending, n int, err error, sure bool) {
	if n > 0 {
		s.view.Store(batch[n-1].state)
		for _, p := range batch[:n] {
			s.forgetPastsLocked(p.op)
		}
		s.pokeLocked()
	}
	if err != nil && s.storage != nil {
		s.cfg.Logger.Error("storage failed, serving reads only", "err", err)
		s.failLocked(err)
	}
	for i, p := range batch {
		s.queued -= len(p.op.raw)
		if i >= n {
			text := "the write may be lost: the store cannot be written: %v"
			if sure {
				text = "the store cannot be written: %v"
			}
			p.err = refuse(ErrUnavailable, text, err)
		}
		close(p.done)
	}
}

// write stores a batch in as few commits as its size allows and returns how many operations are durable.
func (s *Store) write(st Storage, batch []*pending, applied uint64) (n int, err error) {
	maxBytes, maxPuts := st.MaxBatch()
	wall := s.cfg.Clock.Now()
	var puts []Put
	bytes, from := 0, 0
	heads := map[uint64]int{} // where in puts the newest operation of an origin is named: one row is enough for a batch
	commit := func(to int) error {
		if len(puts) == 0 {
			return nil
		}
		if err := s.commit(st, append(puts, appliedPut(applied+uint64(to)))); err != nil {
			return err
		}
		puts, bytes, from = nil, 0, to
		clear(heads)
		return nil
	}
	for i, p := range batch {
		number := applied + uint64(i) + 1
		node, _ := p.state.vector.get(p.op.Origin)
		log, err := logPuts(p.op, p.hash, node.node, number, wall)
		if err != nil {
			return from, err
		}
		var regs []Put
		for _, f := range p.touched {
			rows, err := entryPuts(f, p.op)
			if err != nil {
				return from, err
			}
			regs = append(regs, rows...)
		}
		size := putBytes(log) + putBytes(regs)
		if len(puts) > 0 && (bytes+size+64 > maxBytes || len(puts)+len(log)+len(regs)+1 > maxPuts) {
			if err := commit(i); err != nil {
				return from, err
			}
		}
		if size+64 > maxBytes || len(log)+len(regs)+1 > maxPuts {
			if err := s.writeLarge(st, p.op, log, regs, number); err != nil {
				return from, err
			}
			from = i + 1
			continue
		}
		if i, named := heads[p.op.Origin]; named {
			puts[i].Value = log[headPut].Value
			log = append(log[:headPut], log[headPut+1:]...)
		} else {
			heads[p.op.Origin] = len(puts) + headPut
		}
		puts = append(append(puts, log...), regs...)
		bytes += size
	}
	if err := commit(len(batch)); err != nil {
		return from, err
	}
	return len(batch), nil
}

func (s *Store) commit(st Storage, puts []Put) error {
	s.mu.Lock()
	s.counts.Flushes++
	s.mu.Unlock()
	return st.Commit(puts)
}

// chunked are the rows of an operation in chunks of at most size, none if it fits one row, and the row that names them or holds it.
func chunked(op *Operation, size int) (chunks []Put, row Put) {
	row.Key = opKey(op.Origin, op.Seq)
	if len(op.raw) <= size {
		row.Value = append([]byte{0}, op.raw...)
		return nil, row
	}
	for part := range slices.Chunk(op.raw, size) {
		chunks = append(chunks, Put{rowKey('c', op.Origin, op.Seq, uint64(len(chunks))), part})
	}
	row.Value = append([]byte{1}, u64(uint64(len(chunks)))...)
	return chunks, row
}

// writeLarge stores an operation that does not fit one batch: its chunks, then the record that makes it count, then
// the registers. A crash before the record leaves chunks without meaning; one after it is made good at open.
func (s *Store) writeLarge(st Storage, op *Operation, log, regs []Put, number uint64) error {
	commit := func(puts []Put) error { return s.commit(st, puts) }
	maxBytes, _ := st.MaxBatch()
	chunks, row := chunked(op, maxBytes/2)
	if err := commitSplit(st, chunks, commit); err != nil {
		return err
	}
	log[0] = row
	if err := s.commit(st, log); err != nil {
		return err
	}
	if err := commitSplit(st, regs, commit); err != nil {
		return err
	}
	return s.commit(st, []Put{appliedPut(number)})
}

// commitSplit commits puts in as many batches as st's limits need. Each put fits a batch.
func commitSplit(st Storage, puts []Put, commit func([]Put) error) error {
	maxBytes, maxPuts := st.MaxBatch()
	for len(puts) > 0 {
		n, bytes := 0, 0
		for n < len(puts) && n < maxPuts {
			if bytes += putBytes(puts[n : n+1]); bytes > maxBytes && n > 0 {
				break
			}
			n++
		}
		if err := commit(puts[:n]); err != nil {
			return fmt.Errorf("store rows: %w", err)
		}
		puts = puts[n:]
	}
	return nil
}

// putBytes is what puts count against MaxBatch, with room for what a storage adds to each.
func putBytes(puts []Put) int {
	n := 0
	for _, p := range puts {
		n += len(p.Key) + len(p.Value) + 32
	}
	return n
}
