package hostdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// keptPasts bounds how many states of the past are kept. They share what has not changed since.
const keptPasts = 8

// past is the state as of a stamp.
type past struct {
	cut   Stamp
	state *snapshot
}

// At is the state as of a stamp: the fold of all operations now known with stamps up to it. The zero Stamp gives an empty
// replica. It costs the operations between it and the nearest state that is at hand: now, the beginning, or one asked for
// lately. Its View answers everything a View does, but that it has no Version, no Applied and no cursor. ErrDropped before the
// Horizon.
func (s *Store) At(ctx context.Context, cut Stamp) (View, error) {
	select {
	case s.pastTurn <- struct{}{}: // one at a time: each may take memory for a whole replica
		defer func() { <-s.pastTurn }()
	case <-ctx.Done():
		return View{}, ctx.Err()
	}
	r, err := s.reading()
	if err != nil {
		return View{}, err
	}
	var state *snapshot
	for again := true; again; {
		h, err := loadHorizon(r.st)
		if err != nil {
			return View{}, fmt.Errorf("read the state as of %s: %w", cut, err)
		}
		if cut.Less(h.at) {
			return View{}, h.dropped("there is no state as of " + momentOf(cut))
		}
		s.mu.Lock()
		// A state from before the horizon is right, but what leads from it to others is gone.
		s.pasts = slices.DeleteFunc(s.pasts, func(p past) bool { return p.cut.Less(h.at) })
		kept := slices.Clone(s.pasts)
		s.mu.Unlock()
		for _, p := range kept {
			if p.cut == cut {
				return View{p.state}, nil
			}
		}
		state, err = r.at(ctx, cut, kept)
		now, failed := loadHorizon(r.st)
		if again = failed == nil && now != h; again {
			continue // operations may have gone from the log while they were read
		}
		if err = errors.Join(err, failed); err != nil {
			return View{}, fmt.Errorf("read the state as of %s: %w", cut, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view.Load().applied == r.view.Applied() { // else something older may have arrived meanwhile
		s.pasts = append(s.pasts, past{cut, state})
		if len(s.pasts) > keptPasts {
			s.pasts = slices.Delete(s.pasts, 0, 1)
		}
	}
	return View{state}, nil
}

// momentOf is a stamp as people name a moment.
func momentOf(cut Stamp) string {
	if cut.IsZero() {
		return "the beginning"
	}
	return cut.Time.Wall().UTC().Format("2006-01-02 15:04:05 UTC")
}

// forgetPastsLocked drops the kept states that an operation belongs to.
func (s *Store) forgetPastsLocked(op *Operation) {
	if len(s.pasts) > 0 {
		s.pasts = slices.DeleteFunc(s.pasts, func(p past) bool { return !p.cut.Less(op.Stamp()) })
	}
}

// at makes the state as of cut from the nearest at hand, forwards by folding or backwards by taking keys anew.
func (r reading) at(ctx context.Context, cut Stamp, kept []past) (*snapshot, error) {
	older := past{state: pastOf(empty)}
	newer := past{cut: latest, state: r.view.snap()}
	for _, p := range kept {
		if p.cut.Less(cut) && older.cut.Less(p.cut) {
			older = p
		}
		if cut.Less(p.cut) && p.cut.Less(newer.cut) {
			newer = p
		}
	}
	forward, backward := 0, 0
	err := r.st.Scan([]byte{'t'}, append(stampKey(older.cut), 0), func(key, _ []byte) error {
		switch s := stampOf(key); {
		case newer.cut.Less(s):
			return errEnough
		case cut.Less(s):
			backward++
		default:
			forward++
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if forward <= 4*backward { // going back reads the history of each key it meets
		return r.forward(ctx, older, cut)
	}
	return r.backward(ctx, newer, cut)
}

var latest = Stamp{Time: ^Time(0), Origin: ^uint64(0)}

// pastOf is a state without what only the present has.
func pastOf(s *snapshot) *snapshot {
	n := *s
	n.vector, n.version, n.applied, n.lateOps = tree[uint64, head]{}, 0, 0, 0
	return &n
}

// forward folds the operations after from, up to cut. The beginning is the base, and everything that is held is folded into it.
func (r reading) forward(ctx context.Context, from past, cut Stamp) (n *snapshot, err error) {
	if from.cut.IsZero() {
		n, err = r.base(ctx)
	} else {
		n = pastOf(from.state)
	}
	if err != nil {
		return nil, err
	}
	err = r.each(ctx, from.cut, func(op *Operation) error {
		if cut.Less(op.Stamp()) {
			return errEnough
		}
		n.effects(op)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return n, nil
}

// backward takes anew every key that an operation after cut has touched, from the operations up to cut.
func (r reading) backward(ctx context.Context, from past, cut Stamp) (*snapshot, error) {
	n := pastOf(from.state)
	touched := map[string]*folding{}
	err := r.each(ctx, cut, func(op *Operation) error {
		if from.cut.Less(op.Stamp()) {
			return errEnough
		}
		for i := range op.Effects {
			if x := &op.Effects[i]; x.foldable() {
				touched[id(x.NS, x.Key)] = nil
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if err := r.refold(ctx, touched, cut, nil); err != nil {
		return nil, err
	}
	n.replaceAll(touched)
	return n, nil
}

// refold makes for each key the fold of the base and of the operations up to cut that are held, without those that except names; nil for
// a key that then is not known.
func (r reading) refold(ctx context.Context, keys map[string]*folding, cut Stamp, except func(Stamp) bool) error {
	for key := range keys {
		f, err := baseOf(r.st, key)
		if err != nil {
			return err
		}
		if f.dataTouched {
			keys[key] = f
		}
	}
	ops, err := r.touching(ctx, keys, cut)
	if err != nil {
		return err
	}
	for _, at := range ops {
		if err := ctx.Err(); err != nil {
			return err
		}
		if except != nil && except(at) {
			continue
		}
		op, err := r.operation(at)
		if err != nil {
			return err
		}
		if op == nil {
			continue
		}
		for i := range op.Effects {
			x := &op.Effects[i]
			f, is := keys[id(x.NS, x.Key)]
			if !is || !x.foldable() {
				continue
			}
			if f == nil {
				f = beginFold(nil, x.NS, x.Key)
				keys[id(x.NS, x.Key)] = f
			}
			f.effect(at, x)
		}
	}
	return nil
}

// replaceAll puts other states of keys in the place of those that n, which the caller owns, has.
func (n *snapshot) replaceAll(keys map[string]*folding) {
	spaces := map[string]bool{}
	for key, f := range keys {
		spaces[n.replace(key, f)] = true
	}
	for ns := range spaces {
		n.remodify(ns)
	}
}

// touching are the stamps up to cut of the operations that touch any of keys, oldest first.
func (r reading) touching(ctx context.Context, keys map[string]*folding, cut Stamp) ([]Stamp, error) {
	found := map[Stamp]bool{}
	for key := range keys {
		prefix := textKey('h', key+"\x00")
		err := r.st.Scan(prefix, nil, func(row, seq []byte) error {
			if len(row) != len(prefix)+16 {
				return nil // of a key whose name begins with this one and NUL
			}
			s := stampOf(row)
			if cut.Less(s) {
				return errEnough
			}
			if r.holds(s, seq) {
				found[s] = true
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
	}
	out := make([]Stamp, 0, len(found))
	for s := range found {
		out = append(out, s)
	}
	slices.SortFunc(out, Stamp.Compare)
	return out, nil
}

// replace puts another state of a key in the place of the one that n, which the caller owns, has. f is a fold from
// nothing; nil for a key that is not known at all. It returns the namespace.
func (n *snapshot) replace(key string, f *folding) (ns string) {
	was, _ := n.entries.get(key)
	if f == nil {
		ns, name, _ := strings.Cut(key, "\x00")
		f = beginFold(nil, ns, name)
	}
	e := f.finish()
	f.before, f.dataTouched, f.permsTouched = was, true, true
	before := map[string]memberRegister{}
	for name := range e.members.all() {
		before[name] = memberRegister{}
	}
	if was != nil {
		for name, r := range was.members.all() {
			before[name] = r
		}
	}
	f.memberBefore = before
	n.entries = n.entries.set(key, e)
	n.reindex(f)
	return e.ns
}

// remodify computes anew when the data of a namespace was last written: the index alone only grows.
func (n *snapshot) remodify(ns string) {
	var newest Time
	for k, e := range n.entries.from(id(ns, "")) {
		if e.ns != ns || len(k) <= len(ns) || k[len(ns)] != 0 {
			break
		}
		newest = max(newest, e.dataStamp.Time, e.deleted.Time, e.lateEdit.Time)
	}
	n.modified = n.modified.set(ns, newest)
}

// Replay calls fn for each revision after a stamp, oldest first, with the state that it leads to. It stops at fn's error.
// What arrives late, with a stamp that has been passed, is not shown. ErrDropped when after is before the Horizon: all that is held is
// shown from there on.
func (s *Store) Replay(ctx context.Context, after Stamp, fn func(rev Revision, v View) error) error {
	then, err := s.At(ctx, after)
	if err != nil {
		return err
	}
	r, err := s.reading()
	if err != nil {
		return err
	}
	state := then.snap()
	err = r.each(ctx, after, func(op *Operation) error {
		state = pastOf(state)
		state.effects(op)
		return fn(r.revision(op), View{state})
	})
	if err != nil {
		return err
	}
	h, err := loadHorizon(r.st)
	if err == nil && after.Less(h.at) { // some may have gone before they were read
		err = h.dropped("history cannot be replayed from " + momentOf(after))
	}
	return err
}

// Formerly is the name that ns/key had in the state then, as of cut, following renames backwards; ok is false when it
// was not there under any name. A key that existed under its present name then is itself.
func (s *Store) Formerly(ctx context.Context, then View, cut Stamp, ns, key string) (name string, ok bool, err error) {
	r, err := s.reading()
	if err != nil {
		return "", false, err
	}
	until := latest
	for !then.Exists(ns, key) {
		former := ""
		prefix := textKey('h', id(ns, key)+"\x00")
		// The first creation after cut tells where the key came from.
		err := r.st.Scan(prefix, append(append([]byte{}, prefix...), stampKey(cut)[1:]...), func(row, value []byte) error {
			at := stampOf(row)
			if len(row) != len(prefix)+16 || !cut.Less(at) {
				return nil
			}
			if !at.Less(until) {
				return errEnough
			}
			return r.takeRow(at, value, func(op *Operation) error {
				for i := range op.Effects {
					if x := &op.Effects[i]; x.Kind == CreateKey && x.NS == ns && x.Key == key {
						former, until = x.From, at
						return errEnough
					}
				}
				return ctx.Err()
			})
		})
		if err != nil && !errors.Is(err, errEnough) {
			return "", false, fmt.Errorf("follow the renames of %s/%s: %w", ns, key, err)
		}
		if former == "" {
			return "", false, nil
		}
		key = former
	}
	return key, true, nil
}
