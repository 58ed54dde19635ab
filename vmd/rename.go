package vmd

import (
	"context"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// renameHops bounds how many names in a row are followed.
const renameHops = 8

// lookupTime bounds a look into history.
const lookupTime = 10 * time.Second

// renaming is what history said of a machine's name while the entries with its UUID stood like this.
type renaming struct {
	was, names string
	to         string // "" = none of them is the entry that it had
}

// itsName is the name of the entry that is a machine's, of those that have its UUID. That is the one of the name under which it
// was taken, or the one that this became by a rename. Another that has its UUID, by a slip or by ill will, never is: who writes
// that need not be allowed to write this. A caller holds mu.
func (b *Box) itsName(e Entry, names []string) (name string, ok bool) {
	if slices.Contains(names, e.Name) {
		return e.Name, true
	}
	if len(names) == 0 {
		return e.Name, false
	}
	var key string
	for _, n := range names {
		item, _ := b.db.Get(hostdb.Hosts, n)
		key += n + " " + item.Revision().String() + "\n"
	}
	r := b.renamed[e.UUID]
	if r.was != e.Name || r.names != key {
		history, is := b.cfg.DB.(History)
		if !is {
			return e.Name, false
		}
		to, err := renamedTo(history, e.Name, names)
		if err != nil {
			b.log.Warn("it cannot be looked up whether the host of a machine was renamed", "vm", e.Name, "uuid", e.UUID, "err", err)
			return e.Name, false
		}
		r = renaming{e.Name, key, to}
		b.renamed[e.UUID] = r
	}
	if r.to == "" {
		return e.Name, false
	}
	return r.to, true
}

// renamedTo follows the newest renames of a host's name to one of names; "" when it leads to none.
func renamedTo(db History, name string, names []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	for range renameHops {
		to, err := renamedOnce(ctx, db, name)
		if to == "" || err != nil || slices.Contains(names, to) {
			return to, err
		}
		name = to
	}
	return "", nil
}

// renamedOnce is what a name became when it went last; "" when it was deleted, or never went.
func renamedOnce(ctx context.Context, db History, name string) (string, error) {
	q := hostdb.RevisionQuery{Scope: hostdb.Scope{NS: hostdb.Hosts, Key: name}, Limit: deletionPage}
	for more := true; more; {
		var list []hostdb.Revision
		var err error
		if list, more, err = db.Revisions(ctx, q); err != nil {
			return "", err
		}
		for _, rev := range list {
			q.Before = rev.ID
			if gone, to := wentBy(rev, name); gone || to != "" {
				return to, nil
			}
		}
	}
	return "", nil
}
