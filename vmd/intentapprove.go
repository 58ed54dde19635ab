package vmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/mesh/lease"
)

// approvalRest is how long an approval that nobody used is kept: by then its machine is back, or gone for another reason.
const approvalRest = 7 * 24 * time.Hour

// approveTries is how often an approval is written anew because boxes took tickets meanwhile.
const approveTries = 10

// DestroyRecords are what approvals are read from and written to: *lease.Lease.
type DestroyRecords interface {
	Get(ctx context.Context, key string) (lease.Record, error)
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
}

// ReadDestroys is the record of the machines that were destroyed lately, with its version; zero when there is none.
func ReadDestroys(ctx context.Context, records DestroyRecords) (Destroys, uint64, error) {
	raw, err := records.Get(ctx, DestroysKey)
	switch {
	case errors.Is(err, lease.ErrNotFound):
		return Destroys{Format: recordFormat}, 0, nil
	case err != nil:
		return Destroys{}, 0, err
	}
	var d Destroys
	if err := Decode(raw.Value, &d); err != nil {
		return Destroys{}, 0, fmt.Errorf("record %s: %w", DestroysKey, err)
	}
	if d.Format > recordFormat {
		return Destroys{}, 0, fmt.Errorf("record %s: %w", DestroysKey, ErrNewer)
	}
	return d, raw.Version, nil
}

// Approve lets machines be destroyed although there were many within the hour. Approving twice is approving once. Errors are
// those of package lease.
func Approve(ctx context.Context, records DestroyRecords, uuids []string, by string, now time.Time) error {
	for try := 1; ; try++ {
		d, version, err := ReadDestroys(ctx, records)
		if err != nil {
			return fmt.Errorf("approve: %w", err)
		}
		if !d.approve(uuids, by, now) {
			return nil
		}
		_, err = records.Put(ctx, DestroysKey, Encode(d), version)
		if err == nil || try == approveTries || !errors.Is(err, lease.ErrConflict) && !errors.Is(err, lease.ErrUnknown) {
			if err != nil {
				err = fmt.Errorf("approve: %w", err)
			}
			return err
		}
	}
}

// approve enters approvals, and forgets those that nobody used. It reports whether something changed.
func (d *Destroys) approve(uuids []string, by string, now time.Time) (changed bool) {
	kept := slices.DeleteFunc(slices.Clone(d.Approved), func(a Approval) bool { return now.Sub(time.UnixMilli(a.At)) > approvalRest })
	changed = len(kept) != len(d.Approved)
	for _, uuid := range uuids {
		if !slices.ContainsFunc(kept, func(a Approval) bool { return a.UUID == uuid }) {
			kept, changed = append(kept, Approval{UUID: uuid, By: by, At: now.UnixMilli()}), true
		}
	}
	d.Approved = kept
	return changed
}
