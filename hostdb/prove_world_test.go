package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// world is a mesh of replicas without a network: the test carries operations between them as it likes.
type world struct {
	*rapid.T
	now    time.Time // by a clock that nobody has
	nodes  []*replica
	ledger map[uint64][]*written // of each origin everything ever written, in order
	flying [][][]byte            // pieces on their way: they may arrive late, twice, anywhere, or never
	seen   map[string]string     // vector -> the answers that somebody gave there
	extra  int                   // operations of no Store, such as the removal of a namespace
}

// replica is one box of the world.
type replica struct {
	box
	skew   time.Duration        // of its clock
	island int                  // boxes of different islands do not hear each other
	copies []*hostdbtest.Memory // of its directory, taken earlier
	etags  map[refKey]string    // what its users have read
	pasts  []hostdb.Stamp       // revisions that they have looked at
	spent  map[uint64]struct{}  // origins that earlier openings of its directory wrote under
}

// written is an operation with what its writer knew.
type written struct {
	op   *hostdb.Operation
	past map[uint64]uint64       // vector of the writer before it
	knew map[refKey]hostdb.Stamp // newest delete of each key it touches that its writer knew of, its own included
}

// holds reports whether the writer of w held x.
func (w *written) holds(x *written) bool { return w.past[x.op.Origin] >= x.op.Seq }

// writes reports whether w puts anything into k.
func (w *written) writes(k refKey) bool {
	return slices.ContainsFunc(w.op.Effects, func(e hostdb.Effect) bool {
		return e.Kind != hostdb.DeleteKey && refKey{e.NS, e.Key} == k
	})
}

// refPlace is one register.
type refPlace struct {
	refKey
	what hostdb.Resource
	at   string
}

// places are the registers that w writes.
func (w *written) places() map[refPlace]bool {
	out := map[refPlace]bool{}
	for _, e := range w.op.Effects {
		p := refPlace{refKey: refKey{e.NS, e.Key}}
		switch e.Kind {
		case hostdb.SetLeaf, hostdb.UnsetLeaf:
			p.what, p.at = hostdb.Data, hostdb.PathOf(e.Path...).String()
		case hostdb.PutMember, hostdb.RemoveMember:
			p.what, p.at = hostdb.Members, e.Member
		case hostdb.SetPerms:
			p.what = hostdb.Perms
		default:
			continue
		}
		out[p] = true
	}
	return out
}

func (w *written) creates(k refKey) bool {
	return slices.ContainsFunc(w.op.Effects, func(e hostdb.Effect) bool {
		return e.Kind == hostdb.CreateKey && refKey{e.NS, e.Key} == k
	})
}

func newWorld(t *rapid.T, boxes int) *world {
	w := &world{T: t, now: time.UnixMilli(1_700_000_000_000), ledger: map[uint64][]*written{}, seen: map[string]string{}}
	for i := range boxes {
		b := w.add(fmt.Sprintf("box%d", i), hostdbtest.NewMemory())
		b.skew = time.Duration(rapid.IntRange(-2500, 2500).Draw(t, "skew")) * time.Millisecond
		if rapid.IntRange(0, 3).Draw(t, "small batches") == 0 {
			b.storage.SetMaxBatch(4000, 40)
		}
	}
	w.tick(0)
	return w
}

func (w *world) add(name string, storage *hostdbtest.Memory) *replica {
	r := &replica{box: box{storage: storage, clock: &fakeClock{w.now}, name: name}, etags: map[refKey]string{}, spent: map[uint64]struct{}{}}
	r.open(w)
	w.nodes = append(w.nodes, r)
	return r
}

func (w *world) pick(label string) *replica {
	return w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(w.T, label)]
}

func (w *world) tick(d time.Duration) {
	w.now = w.now.Add(d)
	for _, r := range w.nodes {
		r.clock.now = w.now.Add(r.skew)
	}
}

func vectorOf(v hostdb.View) map[uint64]uint64 {
	m := map[uint64]uint64{}
	for origin, seq := range v.Vector() {
		m[origin] = seq
	}
	return m
}

func vectorText(v hostdb.View) string { return fmt.Sprint(vectorOf(v)) } // fmt sorts maps

// held are the operations that a vector names.
func (w *world) held(vector map[uint64]uint64) []*written {
	var out []*written
	for origin, seq := range vector {
		if uint64(len(w.ledger[origin])) < seq {
			w.Fatalf("%d operations of %016x are held, %d were written", seq, origin, len(w.ledger[origin]))
		}
		out = append(out, w.ledger[origin][:seq]...)
	}
	return out
}

func operations(list []*written) []*hostdb.Operation {
	ops := make([]*hostdb.Operation, len(list))
	for i, x := range list {
		ops[i] = x.op
	}
	return ops
}

// record takes note of an operation that was just written with a vector before it.
func (w *world) record(past map[uint64]uint64, raw []byte) {
	op, err := hostdb.ParseOperation(raw)
	if err != nil {
		w.Fatalf("what was written: %v", err)
	}
	if n := uint64(len(w.ledger[op.Origin])); op.Seq != n+1 {
		w.Fatalf("operation %d of %016x was written, %d are known: an origin is used twice", op.Seq, op.Origin, n)
	}
	x := &written{op: op, past: past, knew: map[refKey]hostdb.Stamp{}}
	for _, e := range op.Effects {
		x.knew[refKey{e.NS, e.Key}] = hostdb.Stamp{}
	}
	for _, y := range w.held(past) {
		if !y.op.Stamp().Less(op.Stamp()) {
			w.Fatalf("%s was written by who held %s: stamps must grow", op.Stamp(), y.op.Stamp())
		}
		for k, d := range y.knew {
			if mine, touches := x.knew[k]; touches {
				x.knew[k] = newer(mine, d)
			}
		}
	}
	for _, e := range op.Effects {
		if e.Kind == hostdb.DeleteKey {
			x.knew[refKey{e.NS, e.Key}] = op.Stamp()
		}
	}
	w.ledger[op.Origin] = append(w.ledger[op.Origin], x)
	w.Logf("%s after %v", op.Stamp(), past)
	for _, e := range op.Effects {
		w.Logf("    %d %s/%s %q %q %s base %s replaces %s", e.Kind, e.NS, e.Key, e.Path, e.Value, e.Member, orZero(e.Base), orZero(e.Replaces))
	}
}

// write makes a local write; what is refused makes nothing.
func (w *world) write(r *replica, fn func(*hostdb.Tx) error) {
	before := r.store.View()
	past := vectorOf(before)
	c, err := r.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, fn)
	switch {
	case err != nil && !refused(err) && !errors.Is(err, hostdb.ErrWrittenOver) && !errors.Is(err, errStale):
		w.Fatalf("a write at %s: %v", r.name, err)
	case err != nil || !c.Changed():
		if before.Version() != r.store.View().Version() {
			w.Fatalf("a write that did nothing made a version at %s (%v)", r.name, err)
		}
		return
	}
	w.wrote(r, past, c.Revision)
}

// wrote takes note of what r has just written, when it held past.
func (w *world) wrote(r *replica, past map[uint64]uint64, id hostdb.Stamp) {
	if _, used := r.spent[id.Origin]; used {
		w.Fatalf("%s writes under %016x, as it did before it was opened again", r.name, id.Origin)
	}
	seq := r.store.View().Seq(id.Origin)
	raws, err := r.store.Operations(id.Origin, seq-1, 1)
	if err != nil || len(raws) != 1 || seq != past[id.Origin]+1 {
		w.Fatalf("%s wrote %s, and gives %d operations of it (%v)", r.name, id, len(raws), err)
	}
	w.record(past, raws[0])
	r.pasts = append(r.pasts, id)
}

// errStale is returned by a write whose condition names another state than there is.
var errStale = errors.New("the ETag is another one")

// take gives operations to a replica, as the network does: what cannot be taken yet waits for the next time.
func (w *world) take(r *replica, raws [][]byte) {
	_, err := r.store.Apply(context.Background(), raws)
	if err != nil && !errors.Is(err, hostdb.ErrFuture) && !errors.Is(err, hostdb.ErrGap) {
		w.Fatalf("%s takes operations: %v", r.name, err)
	}
}

// send is a piece of one origin's operations as a has them, from where b is or before or behind it.
func (w *world) send(a, b *replica) [][]byte {
	var origins []uint64
	for origin, seq := range a.store.View().Vector() {
		if b.store.View().Seq(origin) < seq || rapid.IntRange(0, 9).Draw(w.T, "what is there already") == 0 {
			origins = append(origins, origin)
		}
	}
	if len(origins) == 0 {
		return nil
	}
	origin := rapid.SampledFrom(origins).Draw(w.T, "origin")
	from := int(b.store.View().Seq(origin)) + rapid.SampledFrom([]int{0, 0, 0, 0, -1, -2, 1}).Draw(w.T, "offset")
	raws, err := a.store.Operations(origin, uint64(max(0, from)), rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(w.T, "bytes"))
	if err != nil {
		w.Fatalf("operations of %s: %v", a.name, err)
	}
	return raws
}

// reopen makes storage the directory of r.
func (w *world) reopen(r *replica, storage *hostdbtest.Memory) {
	if origin := r.store.Origin(); origin != 0 {
		r.spent[origin] = struct{}{}
	}
	r.storage = storage
	r.open(w)
}

// look holds a replica against the rules, and against everybody who ever held the same.
func (w *world) look(r *replica) {
	v := r.store.View()
	got := answers(v)
	if want, known := w.seen[vectorText(v)]; !known {
		w.seen[vectorText(v)] = got
	} else if got != want {
		w.Fatalf("%s answers otherwise than another with the same operations:\n%s\nand\n%s", r.name, got, want)
	}
	if d := newModel(operations(w.held(vectorOf(v)))).differs(v); d != "" {
		w.Fatalf("%s: %s", r.name, d)
	}
}

// answers are everything that a reader of the state can ask, as text.
func answers(v hostdb.View) string {
	var b strings.Builder
	b.WriteString(v.Version().String() + "\n" + digests(v) + picture(v))
	ask := func(ns, key string) {
		item, ok := v.Get(ns, key)
		fmt.Fprintf(&b, "%s/%s %t %t %s %d %d %d %d count=%d has=%t\n", ns, key, ok, v.WasDeleted(ns, key), item.ETag(hostdb.Members), item.Modified().UnixMilli(),
			item.MembersModified().UnixMilli(), item.PermsModified().UnixMilli(), v.PermsModified(ns, key).UnixMilli(), v.MemberCount(ns, key), v.HasMember(ns, key, "h1"))
		for c := range v.Conflicts(ns, key) {
			fmt.Fprintf(&b, "conflict %v\n", c)
		}
	}
	for _, ns := range append(v.Namespaces(), "extra") {
		fmt.Fprintf(&b, "%s %d\n", ns, v.Modified(ns).UnixMilli())
		for _, key := range []string{"h1", "h2", "h3", "t1", "t2", "t3", hostdb.DefaultKey} {
			ask(ns, key)
		}
		for key, item := range v.Items(ns) {
			fmt.Fprintf(&b, "%s %s", key, item.ETag(hostdb.Data))
		}
	}
	for c := range v.AllConflicts() {
		fmt.Fprintf(&b, "conflict %v\n", c)
	}
	fmt.Fprintf(&b, "heads %v retired %s\n", slices.Collect(v.Heads()), v.Retired())
	return b.String()
}

// histories are what a reader of history can ask.
func (w *world) histories(r *replica) string {
	var b strings.Builder
	v := r.store.View()
	ask := func(sc hostdb.Scope) {
		list, more, err := r.store.Revisions(context.Background(), hostdb.RevisionQuery{Scope: sc, Limit: 30})
		if err != nil {
			w.Fatalf("revisions of %v: %v", sc, err)
		}
		fmt.Fprintf(&b, "%v more=%t\n", sc, more)
		for _, x := range list {
			fmt.Fprintf(&b, "%s %s %s %v\n", x.ID, x.Node, x.Log, len(x.Effects))
		}
	}
	ask(hostdb.Scope{})
	for _, ns := range v.Namespaces() {
		ask(hostdb.Scope{NS: ns})
		for key := range v.Keys(ns) {
			ask(hostdb.Scope{NS: ns, Key: key})
			lines, err := r.store.Blame(context.Background(), v, hostdb.Scope{NS: ns, Key: key})
			if err != nil && !errors.Is(err, hostdb.ErrNotFound) {
				w.Fatalf("blame of %s/%s: %v", ns, key, err)
			}
			for _, l := range lines {
				fmt.Fprintf(&b, "%s %s\n", l.Revision, l.Text)
			}
		}
	}
	return b.String()
}

// past holds a state of the past against the rules.
func (w *world) past(r *replica, cut hostdb.Stamp) {
	var upTo []*hostdb.Operation
	for _, x := range w.held(vectorOf(r.store.View())) {
		if !cut.Less(x.op.Stamp()) {
			upTo = append(upTo, x.op)
		}
	}
	if d := newModel(upTo).differs(at(w, &r.box, cut)); d != "" {
		w.Fatalf("%s as of %s: %s", r.name, cut, d)
	}
}

// exchange heals every cut and lets every clock come near, until everybody has everything.
func (w *world) exchange() {
	w.tick(time.Minute)
	for again := true; again; {
		again = false
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				before := b.store.View().Version()
				deliverAll(w, &a.box, &b.box)
				again = again || before != b.store.View().Version()
			}
		}
	}
}

// checkDeleted holds what exists against who knew of which delete. It reads no bases: it knows what each writer held.
func (w *world) checkDeleted(r *replica) {
	held := w.held(vectorOf(r.store.View()))
	newest := map[refKey]hostdb.Stamp{}
	for _, x := range held {
		for k, d := range x.knew {
			newest[k] = newer(newest[k], d)
		}
	}
	made := map[refKey]bool{} // by somebody who knew of the newest delete, or made it
	for _, x := range held {
		for _, e := range x.op.Effects {
			if k := (refKey{e.NS, e.Key}); e.Kind == hostdb.CreateKey && x.knew[k] == newest[k] {
				made[k] = true
			}
		}
	}
	for k := range newest {
		if k.key == "" || k == (refKey{hostdb.Tags, hostdb.AllTag}) || k.key == hostdb.DefaultKey {
			continue
		}
		if got := r.store.View().Exists(k.ns, k.key); got != made[k] {
			w.Fatalf("%s: %s/%s exists: %t; its newest delete is %s, and made anew by who knew that: %t", r.name, k.ns, k.key, got, newest[k], made[k])
		}
	}
}

// checkLosers looks for every pair of concurrent writes to one register of which the loser is neither listed nor written over.
// What a writer had seen is taken from what he held, not from what his operation says.
func (w *world) checkLosers(r *replica) {
	v := r.store.View()
	registers := map[refPlace][]*written{}
	newest := map[refKey]hostdb.Stamp{}
	held := w.held(vectorOf(v))
	for _, x := range held {
		for k, d := range x.knew {
			newest[k] = newer(newest[k], d)
		}
		for p := range x.places() {
			registers[p] = append(registers[p], x)
		}
	}
	for p, list := range registers {
		live := func(x *written) bool { return x.knew[p.refKey] == newest[p.refKey] }
		list = slices.DeleteFunc(list, func(x *written) bool { return !live(x) })
		if len(list) == 0 {
			continue
		}
		winner := slices.MaxFunc(list, func(a, b *written) int { return a.op.Stamp().Compare(b.op.Stamp()) })
		var saw, lost hostdb.Stamp              // newest that the winner's writer held here, and did not hold
		for _, x := range w.held(winner.past) { // maybe lost since with the directory that had it
			if live(x) && x.places()[p] {
				saw = newer(saw, x.op.Stamp())
			}
		}
		for _, x := range list {
			if x != winner && !winner.holds(x) {
				lost = newer(lost, x.op.Stamp())
			}
		}
		if lost.IsZero() {
			continue
		}
		listed := slices.ContainsFunc(slices.Collect(v.Conflicts(p.ns, p.key)), func(c hostdb.Conflict) bool {
			return c.What == p.what && c.At == p.at && c.Winner == winner.op.Stamp() && c.Loser == lost
		})
		if saw.Less(lost) && !listed {
			w.Fatalf("%s: %s lost %v to %s, which is not listed", r.name, lost, p, winner.op.Stamp())
		}
		if _, err := r.store.Revision(lost); err != nil {
			w.Fatalf("%s: the loser of %v: %v", r.name, p, err)
		}
	}
	for k, d := range newest {
		var deleter *written
		for _, x := range held {
			if x.op.Stamp() == d {
				deleter = x
			}
		}
		if deleter == nil {
			continue // known by the writes of those who saw it
		}
		// What the deleter saw is told by its newest stamp: an older write to the key that he had not seen goes unlisted.
		var saw hostdb.Stamp
		for _, x := range w.held(deleter.past) { // maybe lost since with the directory that had it
			if known, touches := x.knew[k]; touches && known.Less(d) && x.writes(k) {
				saw = newer(saw, x.op.Stamp())
			}
		}
		var late *written
		for _, x := range held {
			known, touches := x.knew[k]
			if touches && known.Less(d) && x.writes(k) && !deleter.holds(x) && (late == nil || late.op.Stamp().Less(x.op.Stamp())) {
				late = x
			}
		}
		settled := slices.ContainsFunc(held, func(x *written) bool { return late != nil && x.knew[k] == d && x.creates(k) && x.holds(late) })
		listed := slices.ContainsFunc(slices.Collect(v.Conflicts(k.ns, k.key)), func(c hostdb.Conflict) bool { return c.What == "" && c.Winner == d })
		switch {
		case late == nil && listed:
			w.Fatalf("%s: %s/%s was deleted in %s by who had seen everything, and a conflict is listed", r.name, k.ns, k.key, d)
		case late != nil && saw.Less(late.op.Stamp()) && !settled && !listed:
			w.Fatalf("%s: %s/%s was deleted in %s while %s wrote to it, which is not listed", r.name, k.ns, k.key, d, late.op.Stamp())
		}
	}
}
