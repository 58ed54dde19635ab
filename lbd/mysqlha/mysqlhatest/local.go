package mysqlhatest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"hostmesh/lbd/mysqlha"
)

// local implements mysqlha.Local.
type local struct {
	w          *World
	node, host string
}

// tell has the agent of the host do something.
func (l *local) tell(ctx context.Context, what string, o *mysqlha.Order, f func(b *box) error) error {
	if o != nil && o.Tag != l.w.Tag {
		return fmt.Errorf("%s: %w: %q", l.host, mysqlha.ErrNotHere, o.Tag)
	}
	if o != nil {
		l.w.effect(l.host, what)
	}
	if err := pass(ctx, time.Millisecond); err != nil {
		return fmt.Errorf("%s: %w", l.host, mysqlha.ErrSilent)
	}
	for {
		l.w.mu.Lock()
		b := l.w.boxes[l.host]
		if !b.quiet() && l.w.way(l.node, l.host) {
			err := b.obey(o, f)
			if o != nil {
				l.w.say("%s tells %s to %s in epoch %d (%v): %s", l.node, l.host, what, o.Epoch, err, b.stands())
			}
			l.w.mu.Unlock()
			l.again(what, o, f)
			return l.answered(ctx, err)
		}
		l.w.mu.Unlock()
		if pass(ctx, tick) != nil {
			l.later(what, o, f)
			return fmt.Errorf("%s: %w", l.host, mysqlha.ErrSilent)
		}
	}
}

// obey does what an order says, unless the host has seen a later one. mu is held.
func (b *box) obey(o *mysqlha.Order, f func(b *box) error) error {
	if o != nil {
		if o.Before(mysqlha.Order{Epoch: b.epoch, Fence: b.fence}) {
			return fmt.Errorf("%s: %w", b.name, mysqlha.ErrOvertaken)
		}
		b.epoch, b.fence = o.Epoch, o.Fence
	}
	return f(b)
}

// answered waits until an answer comes through.
func (l *local) answered(ctx context.Context, err error) error {
	for {
		l.w.mu.Lock()
		ok := l.w.way(l.host, l.node)
		l.w.mu.Unlock()
		if ok {
			return err
		}
		if pass(ctx, tick) != nil {
			return fmt.Errorf("%s: %w", l.host, mysqlha.ErrSilent)
		}
	}
}

// again has an order arrive a second time, where orders do.
func (l *local) again(what string, o *mysqlha.Order, f func(b *box) error) {
	l.w.mu.Lock()
	echoes := l.w.echoes
	l.w.mu.Unlock()
	if o == nil || !echoes || what == "clone" {
		return
	}
	l.w.wg.Go(func() {
		if pass(l.w.ctx, rand.N(echoTime)) == nil {
			l.arrive(what, o, f)
		}
	})
}

// later has an order arrive when the host hears again, though nobody waits for it any more.
func (l *local) later(what string, o *mysqlha.Order, f func(b *box) error) {
	l.w.mu.Lock()
	lands := l.w.lands
	l.w.mu.Unlock()
	if o == nil || !lands || what == "clone" {
		return
	}
	l.w.wg.Go(func() {
		for end := time.Now().Add(landTime); time.Now().Before(end); {
			l.w.mu.Lock()
			ok := !l.w.boxes[l.host].quiet() && l.w.way(l.node, l.host)
			l.w.mu.Unlock()
			if ok {
				l.arrive(what, o, f)
				return
			}
			if pass(l.w.ctx, tick) != nil {
				return
			}
		}
	})
}

func (l *local) arrive(what string, o *mysqlha.Order, f func(b *box) error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if b := l.w.boxes[l.host]; !b.quiet() {
		err := b.obey(o, f) // nobody hears of it
		l.w.say("%s told %s to %s in epoch %d, late or again (%v): %s", l.node, l.host, what, o.Epoch, err, b.stands())
	}
}

// State implements mysqlha.Local.
func (l *local) State(ctx context.Context, tag string) (st mysqlha.LocalState, err error) {
	if tag != l.w.Tag {
		return st, fmt.Errorf("%s: %w: %q", l.host, mysqlha.ErrNotHere, tag)
	}
	err = l.tell(ctx, "state", nil, func(b *box) error {
		st = mysqlha.LocalState{Process: b.process, PID: b.pid, Since: b.processAt, Why: b.ended, Marked: b.marked, Epoch: b.epoch, Fence: b.fence, Rejoined: b.rejoined}
		if b.tenure != nil && b.tenure.Valid() {
			st.VIP = "held"
		}
		for a := range b.nft {
			st.CutFrom = append(st.CutFrom, a)
		}
		slices.Sort(st.CutFrom)
		if b.copy != nil {
			c := *b.copy
			st.Copy = &c
		}
		return nil
	})
	return st, err
}

func key(s mysqlha.Source) string { return fmt.Sprintf("%s:%d", s.Host, s.Port) }

// cuts takes an order to cut or to uncut, unless a later one was here before. mu is held.
func (b *box) cuts(o mysqlha.Order, s mysqlha.Source) error {
	if o.Stale(b.lastCut[key(s)]) {
		return fmt.Errorf("%s: %w", b.name, mysqlha.ErrOvertaken)
	}
	if b.lastCut == nil {
		b.lastCut = map[string]mysqlha.Order{}
	}
	b.lastCut[key(s)] = o
	return nil
}

// runs takes an order to start or to end the server, unless a later one was here before. mu is held.
func (b *box) runs(o mysqlha.Order) error {
	if o.Stale(b.lastRun) {
		return fmt.Errorf("%s: %w", b.name, mysqlha.ErrOvertaken)
	}
	b.lastRun = o
	return nil
}

// Cut implements mysqlha.Local.
func (l *local) Cut(ctx context.Context, o mysqlha.Order, s mysqlha.Source) error {
	if _, err := netip.ParseAddr(s.Host); err != nil {
		return fmt.Errorf("%s: cut: %w", l.host, err)
	}
	return l.tell(ctx, "cut", &o, func(b *box) error {
		if err := b.cuts(o, s); err != nil {
			return err
		}
		b.nft[key(s)], b.rules[key(s)] = true, true
		if src := l.w.boxes[b.source]; src != nil && src.addr.String() == s.Host && s.Port != 0 && b.ioState == "Yes" {
			b.ioState, b.ackConnected = "Connecting", false
		}
		for _, x := range l.w.boxes { // what it serves hears of the reset, too
			if x.addr.String() == s.Host && s.Port == 0 && x.source == b.name && x.ioState == "Yes" {
				x.ioState, x.ackConnected = "Connecting", false
			}
		}
		return nil
	})
}

// Uncut implements mysqlha.Local.
func (l *local) Uncut(ctx context.Context, o mysqlha.Order, s mysqlha.Source) error {
	return l.tell(ctx, "uncut", &o, func(b *box) error {
		if err := b.cuts(o, s); err != nil {
			return err
		}
		delete(b.nft, key(s))
		delete(b.rules, key(s))
		return nil
	})
}

// Kill implements mysqlha.Local.
func (l *local) Kill(ctx context.Context, o mysqlha.Order, why string) error {
	return l.tell(ctx, "kill", &o, func(b *box) error {
		if err := b.runs(o); err != nil {
			return err
		}
		b.marked, b.markedAt, b.shut, b.closed, b.here, b.left = why, o.Epoch, true, true, false, time.Time{}
		b.end(mysqlha.ProcessStopped, why)
		b.endTenureLocked(why)
		return nil
	})
}

// Start implements mysqlha.Local.
func (l *local) Start(ctx context.Context, o mysqlha.Order, as mysqlha.Role) error {
	if as != mysqlha.AsPrimary && as != mysqlha.AsReplica {
		return fmt.Errorf("%s: start as %q: there is no such role", l.host, as)
	}
	if err := pass(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	return l.tell(ctx, "start-server", &o, func(b *box) error {
		if err := b.runs(o); err != nil {
			return err
		}
		if as == mysqlha.AsPrimary && b.marked != "" && o.Epoch <= b.markedAt {
			return mysqlha.ErrMarked
		}
		if b.cloning {
			return fmt.Errorf("%s: %w", l.host, mysqlha.ErrBusy)
		}
		if b.marked != "" {
			b.end(mysqlha.ProcessStopped, b.marked) // somebody started what was fenced
		}
		b.marked, b.shut, b.closed = "", false, false
		if b.running {
			return nil
		}
		if b.spoilt {
			b.ended = mysqlha.ErrUnrecoverable.Error()
			return fmt.Errorf("%s: %w", l.host, mysqlha.ErrUnrecoverable)
		}
		b.begin(as)
		if as == mysqlha.AsReplica {
			b.rejoined = o.Epoch
		}
		return nil
	})
}

// Stop implements mysqlha.Local.
func (l *local) Stop(ctx context.Context, o mysqlha.Order) error {
	return l.tell(ctx, "stop", &o, func(b *box) error {
		if err := b.runs(o); err != nil {
			return err
		}
		b.end(mysqlha.ProcessStopped, "stopped")
		return nil
	})
}

// TakeVIP implements mysqlha.Local: a tenure, as the real one has it, and no second box on the same wire.
func (l *local) TakeVIP(ctx context.Context, o mysqlha.Order) error {
	err := l.tell(ctx, "take-address", &o, func(b *box) error {
		if b.marked != "" {
			return fmt.Errorf("%s: %w: %s", l.host, mysqlha.ErrMarked, b.marked)
		}
		b.refusing, b.here = false, true
		if b.tenure != nil && b.tenure.Why() == "" {
			b.tenure.Order(o.Epoch)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.claim(ctx, o)
}

// claim has the address here, under a tenure for the epoch of an order.
func (l *local) claim(ctx context.Context, o mysqlha.Order) (err error) {
	for err == nil {
		l.w.mu.Lock()
		b := l.w.boxes[l.host]
		other := ""
		for _, name := range l.w.names() {
			x := l.w.boxes[name]
			if x != b && x.holds() && l.w.link(x.name, b.name) {
				other = name
			}
		}
		here := b.tenure != nil && b.tenure.Why() == ""
		switch {
		case o.Before(mysqlha.Order{Epoch: b.epoch, Fence: b.fence}):
			err = mysqlha.ErrOvertaken
		case b.away || b.dead:
			err = fmt.Errorf("%s: %w", l.host, mysqlha.ErrSilent)
		case other == "" && !here && b.running:
			k := &mysqlha.Connected{
				Records: l.w.RecordsAt(l.host, 0), Own: &server{w: l.w, node: l.host, host: l.host, closed: make(chan struct{})},
				State: func(ctx context.Context, host, tag string) (mysqlha.LocalState, error) {
					if l.w.mute(l.host) {
						return mysqlha.LocalState{}, mysqlha.ErrSilent
					}
					return (&local{l.w, l.host, host}).State(ctx, tag)
				},
			}
			t := mysqlha.NewTenure(o.Tag, l.host, o.Epoch, k, func(ctx context.Context) (int, bool) { return k.Ackers(ctx, o.Tag) }, nil)
			ctx, cancel := context.WithCancel(l.w.ctx)
			b.tenure, b.endTenure = t, cancel
			l.w.wg.Go(func() {
				if t.Run(ctx) == nil { // why it ends, it keeps
					return
				}
				l.w.mu.Lock()
				defer l.w.mu.Unlock()
				if b.tenure == t {
					b.here = false
				}
			})
		}
		done := other == "" && b.tenure != nil && b.tenure.Valid()
		ended := here && b.tenure.Why() != ""
		l.w.mu.Unlock()
		if done || ended {
			return err
		}
		if err == nil {
			if perr := pass(ctx, tick); perr != nil {
				return fmt.Errorf("%s: the address is not here: %w", l.host, perr)
			}
		}
	}
	return err
}

// mute reports whether the agent of a host reaches nobody.
func (w *World) mute(host string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.boxes[host]
	return b.silent || b.dead
}

func (b *box) endTenureLocked(why string) {
	if b.tenure != nil {
		b.tenure.End(why)
		b.endTenure()
	}
	b.tenure, b.kept = nil, time.Time{}
}

// DropVIP implements mysqlha.Local.
func (l *local) DropVIP(ctx context.Context, o mysqlha.Order) error {
	return l.tell(ctx, "drop-address", &o, func(b *box) error {
		b.left = time.Time{}
		b.here = false
		b.endTenureLocked("told to")
		return nil
	})
}

// HandOverVIP implements mysqlha.Local.
func (l *local) HandOverVIP(ctx context.Context, o mysqlha.Order) error {
	return l.tell(ctx, "hand-over", &o, func(b *box) error { b.refusing, b.here = true, false; return nil })
}

// records is where the record lies.
type records struct {
	record  mysqlha.Record
	version uint64
	none    bool
	holder  uint64 // the highest fencing number that was granted
	lost    bool   // no quorum
}

// Grant gives the duty to a new holder, and returns its fencing number. What the one before writes is refused from now on.
func (w *World) Grant() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec.holder++
	return w.rec.holder
}

// Granted reports whether a number is of the present holder.
func (w *World) Granted(fence uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rec.holder == fence
}

// Found has the group that grants duties founded anew: its numbers begin anew.
func (w *World) Found() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec.holder = 0
}

// Lose has the record be an older one.
func (w *World) Lose(older mysqlha.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec.record = older
	w.rec.version++
}

// NoQuorumAt takes the quorum from a box, or gives it back.
func (w *World) NoQuorumAt(host string, on bool) { w.with(host, func(b *box) { b.noQuorum = on }) }

// Has reports whether a box has the address, whoever else does.
func (w *World) Has(host string) (has bool) {
	w.with(host, func(b *box) { has = b.tenure != nil && b.tenure.Valid() || b.leaves() })
	return has
}

// Quorum takes the quorum away from everybody, or gives it back.
func (w *World) Quorum(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec.lost = !on
}

// NoRecord makes the cluster one that nobody has set up.
func (w *World) NoRecord() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec = records{none: true, holder: w.rec.holder}
}

// RecordsAt are the records as a node reaches them, under a grant; 0 = it only reads. A node that is isolated has no quorum.
func (w *World) RecordsAt(node string, fence uint64) mysqlha.Records {
	return &recordsAt{w, node, fence}
}

type recordsAt struct {
	w     *World
	node  string
	fence uint64
}

func (r *recordsAt) reach(ctx context.Context) error {
	if err := pass(ctx, 3*time.Millisecond); err != nil {
		return err
	}
	for {
		r.w.mu.Lock()
		b := r.w.boxes[r.node]
		ok := !r.w.rec.lost && !r.w.unread[r.node] && (b == nil || !b.lonely && !b.quiet() && !b.noQuorum)
		r.w.mu.Unlock()
		if ok {
			return nil
		}
		if err := pass(ctx, tick); err != nil {
			return fmt.Errorf("no quorum: %w", err)
		}
	}
}

// Load implements mysqlha.Records.
func (r *recordsAt) Load(ctx context.Context, _ string) (mysqlha.Record, uint64, error) {
	if err := r.reach(ctx); err != nil {
		return mysqlha.Record{}, 0, err
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.w.rec.none {
		return mysqlha.Record{}, 0, mysqlha.ErrNoRecord
	}
	return r.w.rec.record.Clone(), r.w.rec.version, nil
}

// Store implements mysqlha.Records.
func (r *recordsAt) Store(ctx context.Context, _ string, rec mysqlha.Record, version uint64) (uint64, error) {
	r.w.effect("", "store")
	if err := r.reach(ctx); err != nil {
		return 0, err
	}
	data, err := json.Marshal(rec) // as the real ones, which keep bytes
	if err != nil {
		return 0, err
	}
	var kept mysqlha.Record
	if err := json.Unmarshal(data, &kept); err != nil {
		return 0, err
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	switch {
	case r.fence != r.w.rec.holder:
		return 0, mysqlha.ErrOvertaken
	case version != r.w.rec.version:
		return 0, mysqlha.ErrChanged
	}
	r.w.rec.record, r.w.rec.none = kept, false
	r.w.say("%s writes the record: %s", r.node, brief(kept))
	r.w.rec.version++
	return r.w.rec.version, nil
}
