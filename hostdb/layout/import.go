package layout

import (
	"context"
	"fmt"
	"sync"

	"hostmesh/hostdb"
)

// inFlight is how many operations of an import wait at once, for the disk, which they share, and for other boxes.
const inFlight = 8

// Tally counts what became of things.
type Tally struct{ Created, Changed, Unchanged int }

func (t *Tally) add(o Tally) {
	t.Created += o.Created
	t.Changed += o.Changed
	t.Unchanged += o.Unchanged
}

// Report tells what an import did.
type Report struct {
	Namespaces int   // created
	Keys       Tally // documents
	Members    Tally // member lists
	Perms      Tally // access lists
	// LeftAlone counts keys that the Store has in namespaces of the directory and the directory has not.
	LeftAlone int
	// Operations is how many were made. Acks is the fewest boxes that held one of them when it was answered, this one
	// included; 0 when none was made.
	Operations, Acks int
	// Version is at or after which all that was imported is visible here.
	Version hostdb.Version
	// Problems are those of the Inventory: warnings, and what was left out.
	Problems Problems
	// Warnings are the validator's.
	Warnings []string
	// Missing names what an import that stopped early did not write, or may not have: namespaces, ns/key for data,
	// ns/key/members, ns/key/perms. All else of the directory is in the Store.
	Missing []string
}

// Import writes an Inventory into a Store. Documents, member lists and access lists of the directory replace those of
// the Store; what the directory has no file for stays as it is, and no key is deleted. What is equal makes no
// operation. Validation only warns.
//
// A small import is one operation, and so all or nothing; a larger one is several. When one of them fails, or ctx
// ends, no further one begins, Report.Missing says what is not there, and importing again completes it. Permission
// for everything is asked before the first.
//
// The Inventory should have been read with Options.Into from the same Store: members that are not there, or that make
// a cycle with lists that stay, stop the import otherwise.
//
// progress is called with the number of writes that are done and of all, by one goroutine; nil for none.
func Import(ctx context.Context, store *hostdb.Store, inv *Inventory, who hostdb.Request, progress func(done, total int)) (Report, error) {
	view := store.View()
	p := makePlan(inv, view)
	p.report.Version = view.Version()
	if err := p.allow(who, view); err != nil {
		return p.report, err
	}
	who.Lenient = true
	return p.run(ctx, store, who, progress)
}

// result is what became of one batch.
type result struct {
	steps  []step
	tally  Report
	commit hostdb.Commit
	err    error
}

// run makes the operations in their order: each begins when the one before it has its place, and does not wait until
// that one is durable.
func (p *plan) run(ctx context.Context, store *hostdb.Store, who hostdb.Request, progress func(done, total int)) (Report, error) {
	batches := p.batches()
	results := make(chan result, inFlight)
	running, done, begun := 0, 0, 0
	var failed error
	take := func() {
		r := <-results
		running--
		if r.err != nil {
			failed = firstOf(failed, r.err)
			p.missing(r.steps)
			return
		}
		p.report.count(r)
		if done += len(r.steps); progress != nil {
			progress(done, len(p.steps))
		}
	}
	for i, steps := range batches {
		if running == inFlight {
			take()
		}
		for len(results) > 0 { // hear of a failure soon
			take()
		}
		if failed = firstOf(failed, ctx.Err()); failed != nil {
			break
		}
		req := who
		if len(batches) > 1 {
			req.Log = fmt.Sprintf("%s (part %d of %d)", who.Log, i+1, len(batches))
		}
		placed := make(chan struct{})
		running++
		begun = i + 1
		go func() { results <- write(ctx, store, req, steps, placed) }()
		<-placed
	}
	for running > 0 {
		take()
	}
	for _, steps := range batches[begun:] {
		p.missing(steps)
	}
	p.report.Version = store.View().Version()
	if failed != nil {
		return p.report, fmt.Errorf("import stopped with %d of %d writes done: %w; what is missing is listed, "+
			"and running the import again completes it", done, len(p.steps), failed)
	}
	return p.report, nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// write makes one operation. placed is closed when the next one may begin: hostdb runs the functions of Updates one
// after the other, each on the state the one before it left.
func write(ctx context.Context, store *hostdb.Store, req hostdb.Request, steps []step, placed chan struct{}) result {
	r := result{steps: steps}
	release := sync.OnceFunc(func() { close(placed) })
	defer release()
	r.commit, r.err = store.Update(ctx, req, func(tx *hostdb.Tx) error {
		defer release()
		for _, s := range steps {
			if err := s.write(tx); err != nil {
				return fmt.Errorf("%s: %w", s.id(), err)
			}
			r.tally.step(s, tx.View())
		}
		return nil
	})
	return r
}

// step counts one write on top of the state that it goes on.
func (r *Report) step(s step, before hostdb.View) {
	if s.fresh == nil {
		return
	}
	one := Tally{Changed: 1}
	if s.fresh(before) {
		one = Tally{Created: 1}
	}
	switch s.what {
	case hostdb.Data:
		r.Keys.add(one)
	case hostdb.Members:
		r.Members.add(one)
	case hostdb.Perms:
		r.Perms.add(one)
	default:
		r.Namespaces += one.Created
	}
}

// count adds a batch that is durable.
func (r *Report) count(b result) {
	r.Namespaces += b.tally.Namespaces
	r.Keys.add(b.tally.Keys)
	r.Members.add(b.tally.Members)
	r.Perms.add(b.tally.Perms)
	r.Warnings = append(r.Warnings, b.commit.Warnings...)
	if !b.commit.Changed() {
		return
	}
	r.Operations++
	if r.Acks == 0 || b.commit.Acks < r.Acks {
		r.Acks = b.commit.Acks
	}
}

func (p *plan) missing(steps []step) {
	for _, s := range steps {
		if s.fresh != nil {
			p.report.Missing = append(p.report.Missing, s.id())
		}
	}
}
