package vmd

import (
	"context"
	"errors"
	"fmt"

	"hostmesh/mesh/lease"
)

// maxTried bounds the attempts that a record keeps, from which follows how long the next one waits (see setback).
const maxTried = 4 * maxBoxes

func tried(list []Attempt, a Attempt) []Attempt {
	list = append(list[:len(list):len(list)], a)
	return list[max(len(list)-maxTried, 0):]
}

func decodeRecord(b []byte) (Record, error) {
	var r Record
	if err := Decode(b, &r); err != nil {
		return Record{}, err
	}
	if r.Format > recordFormat {
		return Record{}, ErrNewer
	}
	return r, nil
}

// readRecord reads a machine's record and its version; both are zero when there is none.
func readRecord(ctx context.Context, records Records, uuid string) (Record, uint64, error) {
	if records == nil {
		return Record{}, 0, errNoRecords
	}
	raw, err := records.Get(ctx, RecordKey(uuid))
	switch {
	case errors.Is(err, lease.ErrNotFound):
		return Record{}, 0, nil
	case err != nil:
		return Record{}, 0, err
	}
	r, err := decodeRecord(raw.Value)
	if err != nil {
		return Record{}, 0, fmt.Errorf("record %s: %w", raw.Key, err)
	}
	return r, raw.Version, nil
}

// noQuorum reports whether an error says that nobody can decide at present, which is nobody's fault.
func noQuorum(err error) bool {
	for _, e := range []error{lease.ErrNoGroup, lease.ErrNoLeader, lease.ErrUnknown, lease.ErrRecovering, lease.ErrFull, lease.ErrClosed, errNoRecords} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errNoRecords is returned where this agent takes no part in a lease group.
var errNoRecords = errors.New("this agent takes no part in duties")
