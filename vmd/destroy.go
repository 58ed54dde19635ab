package vmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/mesh/lease"
)

const (
	// DestroysPerHour is how many machines of a datacenter may be destroyed within an hour without somebody's approval.
	DestroysPerHour = 5
	destroyWithin   = time.Hour
	// casTries bounds how often a compare-and-set is tried again.
	casTries = 20
)

// errTicket is wrapped while a machine waits for an approval.
var errTicket = errors.New("it waits to be destroyed")

// changeDestroys changes the record by compare-and-set. change returns false when there is nothing to write.
func changeDestroys(ctx context.Context, records Records, now time.Time, change func(*Destroys) bool) error {
	for range casTries {
		d, version, err := ReadDestroys(ctx, records)
		if err != nil {
			return err
		}
		far := d.future(now)
		if d = d.fresh(now); !change(&d) && !far {
			return nil
		}
		_, err = records.Put(ctx, DestroysKey, Encode(d), version)
		if !errors.Is(err, lease.ErrConflict) && !errors.Is(err, lease.ErrUnknown) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("record %s: %w: %d times", DestroysKey, lease.ErrConflict, casTries)
}

// future reports whether there are tickets of a clock that was far ahead: they would count until that time comes.
func (d Destroys) future(now time.Time) bool {
	return slices.ContainsFunc(d.Recent, func(t Ticket) bool { return time.UnixMilli(t.At).Sub(now) > destroyWithin })
}

// fresh leaves out what is over. Tickets of a clock that was far ahead count from now.
func (d Destroys) fresh(now time.Time) Destroys {
	old := func(at int64, keep time.Duration) bool { return now.Sub(time.UnixMilli(at)) > keep }
	d.Recent = slices.DeleteFunc(slices.Clone(d.Recent), func(t Ticket) bool { return old(t.At, destroyWithin) })
	for i, t := range d.Recent { // a clone
		if time.UnixMilli(t.At).Sub(now) > destroyWithin {
			d.Recent[i].At = now.UnixMilli()
		}
	}
	d.Approved = slices.DeleteFunc(slices.Clone(d.Approved), func(a Approval) bool { return old(a.At, approvalRest) })
	return d
}

// take takes a ticket for a machine: false when it must wait. changed: d is to be written.
func (d *Destroys) take(uuid string, now time.Time) (ok, changed bool) {
	if slices.ContainsFunc(d.Recent, func(t Ticket) bool { return t.UUID == uuid }) {
		return true, false // by a run that did not get to write it down
	}
	approved := false
	d.Approved = slices.DeleteFunc(d.Approved, func(a Approval) bool {
		approved = approved || a.UUID == uuid
		return a.UUID == uuid
	})
	n := 0
	for _, t := range d.Recent {
		if !t.Approved {
			n++
		}
	}
	if !approved && n >= DestroysPerHour {
		return false, false
	}
	d.Recent = append(d.Recent, Ticket{UUID: uuid, At: now.UnixMilli(), Approved: approved})
	return true, true
}

// approved reports whether a person has let a machine go, used or not.
func (d Destroys) approved(uuid string) bool {
	return slices.ContainsFunc(d.Approved, func(a Approval) bool { return a.UUID == uuid }) ||
		slices.ContainsFunc(d.Recent, func(t Ticket) bool { return t.UUID == uuid && t.Approved })
}

// mayDestroy takes a ticket and writes it down: from then on the machine goes.
func (b *Box) mayDestroy(ctx context.Context, e Entry) error {
	if b.cfg.Records == nil {
		return errNoRecords
	}
	granted, kept := false, false
	now, _ := b.wall() // others' tickets are by it
	leads := b.leads(ctx, e)
	err := changeDestroys(ctx, b.cfg.Records, now, func(d *Destroys) (changed bool) {
		if kept = leads != "" && !d.approved(e.UUID); kept {
			return false
		}
		granted, changed = d.take(e.UUID, now)
		return changed
	})
	if err != nil {
		return err
	}
	if kept {
		return fmt.Errorf("%w: %s; or hostmesh approve %s", errTicket, leads, e.Name)
	}
	if !granted {
		return fmt.Errorf("%w: more than %d destroys within an hour: hostmesh approve %s, or --all", errTicket, DestroysPerHour, e.Name)
	}
	if _, what, _ := b.wish(e); what != gone {
		return errAgain // wanted again meanwhile; the ticket is lost
	}
	return b.note(e.UUID, func(e *Entry) { e.Stage = Destroying })
}
