package mysqlha

import (
	"context"
	"errors"
	"fmt"
)

// inheritance is what the log of a copy is to begin with, "" = nothing. A log of MariaDB that begins with the copy has but what is replicated from then on; what is asked
// of it by membership (Errant) would find that everybody else has transactions which the copy never had, when that is the primary. donor is from before the
// copy was made: what is in it then is in the data, and so is position.
func inheritance(copied, donor Facts, position string) (string, error) {
	if copied.Flavour != MariaDB || donor.Flavour != MariaDB {
		return "", nil
	}
	has, err := ParseGTIDs(MariaDB, copied.Binlog)
	had, err2 := ParseGTIDs(MariaDB, donor.Binlog)
	at, err3 := ParseGTIDs(MariaDB, position)
	if err := errors.Join(err, err2, err3); err != nil {
		return "", err
	}
	if want := had.Union(at); has.Empty() && !want.Empty() {
		return want.String(), nil
	}
	return "", nil // one that has something cannot be told anything any more
}

// inherit has a copy, which follows nobody yet, know whose transactions are in its data.
func (r *Runner) inherit(ctx context.Context, m Member, copied, donor Facts, position string) error {
	want, err := inheritance(copied, donor, position)
	if err != nil || want == "" {
		return err
	}
	file, err := []Setting(nil), error(nil)
	err = r.bounded(ctx, openBound, func(ctx context.Context) (err error) {
		file, err = r.cfg.World.Server(m).Apply(ctx, []Setting{{Name: "gtid_binlog_state", Want: want}})
		return err
	})
	if err == nil && len(file) > 0 {
		err = errors.New("our account may not set gtid_binlog_state: hostmesh mysql check --grants prints what it needs")
	}
	if err != nil {
		return fmt.Errorf("have the log of %s begin with what is in its data: %w", m.Host, err)
	}
	return nil
}
