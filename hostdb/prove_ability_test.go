package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// abilities are the steps that not every replica needs: a whole state is taken, runs are retired. look is told who changed.
func (w *world) abilities(look func(*replica)) map[string]func() {
	return map[string]func(){
		"joined": func() { // an empty directory takes the state of a box
			if r := w.pick("from"); len(w.nodes) < 9 && len(vectorOf(r.store.View())) > 0 {
				look(w.join(r))
			}
		},
		"retire": func() { // runs that nobody goes on with are named no more
			r := w.pick("box")
			var closed []hostdb.Head
			for h := range r.store.View().Heads() {
				open := false
				for _, other := range w.nodes {
					open = open || other.store.Origin() == h.Origin
				}
				if !open && rapid.Bool().Draw(w.T, "this run") {
					closed = append(closed, h)
				}
			}
			past := vectorOf(r.store.View())
			c, err := r.store.RetireRuns(context.Background(), closed)
			switch {
			case errors.Is(err, hostdb.ErrClock):
			case err != nil:
				w.Fatalf("retire runs at %s: %v", r.name, err)
			case c.Changed():
				w.wrote(r, past, c.Revision)
				look(r)
			}
		},
	}
}

// join makes a box that takes the state of r in pieces, dies now and then meanwhile, and then fetches the history.
func (w *world) join(r *replica) *replica {
	v := r.store.View()
	n := w.add(fmt.Sprintf("joiner%d", len(w.nodes)), hostdbtest.NewMemory())
	w.tick(0)
	must := func(what string, err error) {
		if err != nil {
			w.Fatalf("%s: %v", what, err)
		}
	}
	must("begin a join", n.store.BeginJoin(context.Background(), v.Version().String(), v.EncodeHeads()))
	for after, more := "", true; more; {
		piece, last := v.Piece(after, rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(w.T, "piece of"))
		must("take a piece", n.store.AddPiece(context.Background(), piece, after, last))
		if rapid.IntRange(0, 5).Draw(w.T, "dies") == 0 {
			w.reopen(n, n.storage.Snapshot())
			if j, ok := n.store.Joining(); !ok || last != "" && j.After != last {
				w.Fatalf("a join that had come to %q goes on after %q (%t)", last, j.After, ok)
			}
		}
		after, more = last, last != ""
	}
	sums := map[string]string{}
	for _, ns := range v.Namespaces() {
		sums[ns] = v.Digest(ns)
	}
	must("finish a join", n.store.FinishJoin(context.Background(), sums))
	w.look(n)
	for holes := n.store.Holes(); len(holes) > 0; holes = n.store.Holes() {
		h := holes[rapid.IntRange(0, len(holes)-1).Draw(w.T, "hole")]
		raws, _, gone, err := r.store.OperationsUntil(h.Origin, h.Until, rapid.SampledFrom([]int{1, 500, 1 << 20}).Draw(w.T, "bytes"))
		must("read history", err)
		must("fill history", n.store.Fill(context.Background(), h, raws, gone))
		if rapid.IntRange(0, 5).Draw(w.T, "dies") == 0 {
			w.reopen(n, n.storage.Snapshot())
		}
	}
	if got, want := w.histories(n), ""; len(w.seen) > 0 && vectorText(r.store.View()) == vectorText(n.store.View()) {
		if want = w.histories(r); got != want {
			w.Fatalf("who joined tells another history:\n%s\nwant\n%s", got, want)
		}
	}
	return n
}

// retain drops history at some boxes when all hold the same. The present is answered as before, and so is what is younger; what
// comes after that finds all of them equal still.
func (w *world) retain() {
	list := revisionsOf(w, &w.nodes[0].box)
	if len(list) == 0 {
		return
	}
	until := list[rapid.IntRange(0, len(list)-1).Draw(w.T, "drop until")].ID
	vector := vectorOf(w.nodes[0].store.View())
	for _, r := range w.nodes {
		if rapid.Bool().Draw(w.T, "this one keeps all") {
			continue
		}
		n, err := r.store.Retain(context.Background(), hostdb.Retention{Until: until,
			Held: func(origin uint64) uint64 { return vector[origin] }, Settled: func(hostdb.Stamp) bool { return true }})
		if err != nil || n == 0 {
			w.Fatalf("%s drops %d operations up to %s: %v", r.name, n, until, err)
		}
		w.look(r)
		if rapid.Bool().Draw(w.T, "restart") {
			w.reopen(r, r.storage.Snapshot())
			w.look(r)
		}
		for _, rev := range list {
			if rapid.IntRange(0, 4).Draw(w.T, "look at the past") != 0 {
				continue
			}
			if until.Compare(rev.ID) <= 0 {
				w.past(r, rev.ID)
			} else if _, err := r.store.At(context.Background(), rev.ID); !errors.Is(err, hostdb.ErrDropped) {
				w.Fatalf("%s as of %s, before %s: %v", r.name, rev.ID, until, err)
			}
		}
	}
	for range rapid.IntRange(0, 6).Draw(w.T, "writes after that") {
		r := w.pick("box")
		w.write(r, w.changes(r))
		w.tick(time.Duration(rapid.IntRange(0, 900).Draw(w.T, "ms")) * time.Millisecond)
	}
	w.exchange()
	for _, r := range w.nodes {
		w.look(r)
	}
	w.checkDeleted(w.nodes[0])
}
