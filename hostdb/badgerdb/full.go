package badgerdb

import (
	"context"
	"fmt"
)

// Phases of Compact, for progress.
const (
	PhaseSweep = "free replaced values"
	PhaseMerge = "merge tables"
)

// Compacted tells what Compact did.
type Compacted struct {
	Before, After int64 // bytes on the disk
	SweptParts    int   // parts of replaced values that were freed
}

// Compact does at once what else happens by and by: it frees the parts of long values that were replaced and merges all tables into
// one level, which drops what was deleted or replaced. Reads and writes go on, slower. It needs free space of about the size of
// the tables, below which it refuses with hostdb.ErrStorageFull. What is still in memory, some 12 MiB at most, is not in tables
// yet. progress, which may be nil, is called when a phase begins. The end of ctx is seen between phases only.
func (db *DB) Compact(ctx context.Context, progress func(phase string)) (done Compacted, err error) {
	if err := db.acquire(); err != nil {
		return done, fmt.Errorf("compact: %w", err)
	}
	defer db.users.Done()
	defer func() {
		if err != nil {
			err = fmt.Errorf("compact %s: %w", db.cfg.Dir, err)
		}
	}()
	if done.Before, err = db.Size(); err != nil {
		return done, err
	}
	done.After = done.Before
	phase := func(name string) error {
		if progress != nil {
			progress(name)
		}
		return ctx.Err()
	}
	if err := phase(PhaseSweep); err != nil {
		return done, err
	}
	if done.SweptParts, err = db.sweep(); err != nil {
		return done, err
	}
	if err := phase(PhaseMerge); err != nil {
		return done, err
	}
	if err := db.compactor.merge(); err != nil {
		return done, err
	}
	done.After, err = db.Size()
	return done, err
}
