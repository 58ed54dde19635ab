package hostdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A plan is a change of many rows that counts as a whole. Its rows are stored beside the others first; then one row says that the plan
// stands, and from then on it is carried out, by whoever opens the storage if need be. Carrying it out twice is as good as once.
//
//	w index   rows to be written, in order
//	m "plan"  the plan stands: nothing may be read before it is carried out

var planKey = textKey('m', "plan")

// planRow is about how many bytes of rows stand together at most.
const planRow = 64 << 10

// storePlan makes a plan stand and carries it out.
func storePlan(st Storage, puts []Put) error {
	if err := dropPlan(st); err != nil { // what was begun once and never stood
		return err
	}
	maxBytes, _ := st.MaxBatch()
	limit := min(planRow, maxBytes/2)
	var rows []Put
	var row []byte
	end := func() {
		if len(row) > 0 {
			rows = append(rows, Put{rowKey('w', uint64(len(rows))), row})
			row = nil
		}
	}
	for _, p := range puts {
		if len(row) > 0 && len(row)+putBytes([]Put{p}) > limit {
			end()
		}
		row = binary.AppendUvarint(row, uint64(len(p.Key)))
		row = append(row, p.Key...)
		if p.Value == nil {
			row = append(row, 0)
			continue
		}
		row = binary.AppendUvarint(append(row, 1), uint64(len(p.Value)))
		row = append(row, p.Value...)
	}
	end()
	if err := commitSplit(st, rows, st.Commit); err != nil {
		return err
	}
	if err := st.Commit([]Put{{planKey, u64(uint64(len(rows)))}}); err != nil {
		return err
	}
	return finishPlan(st)
}

// finishPlan carries out the plan that stands, if one does.
func finishPlan(st Storage) error {
	_, found, err := st.Get(planKey)
	if err != nil {
		return err
	}
	if !found {
		return dropPlan(st)
	}
	err = scanRows(st, 'w', func(rows []storedRow) error {
		for _, row := range rows {
			puts, err := readPlan(row.value)
			if err != nil {
				return fmt.Errorf("row %q: %w", row.key, err)
			}
			if err := commitSplit(st, puts, st.Commit); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("carry out a plan: %w", err)
	}
	if err := st.Commit([]Put{{planKey, nil}}); err != nil {
		return err
	}
	return dropPlan(st)
}

func readPlan(b []byte) (puts []Put, err error) {
	take := func() []byte {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			err = errors.New("it cannot be read")
			return nil
		}
		part := b[n : n+int(size) : n+int(size)]
		b = b[n+int(size):]
		return part
	}
	for len(b) > 0 && err == nil {
		p := Put{Key: take()}
		if err != nil || len(b) == 0 {
			return nil, errors.New("it cannot be read")
		}
		has := b[0] == 1
		if b = b[1:]; has {
			p.Value = take()
		}
		puts = append(puts, p)
	}
	return puts, err
}

// dropPlan removes the rows of a plan that does not stand, or no longer.
func dropPlan(st Storage) error {
	var drop []Put
	err := st.Scan([]byte{'w'}, nil, func(key, _ []byte) error {
		drop = append(drop, Put{bytes.Clone(key), nil})
		return nil
	})
	if err != nil {
		return err
	}
	return commitSplit(st, drop, st.Commit)
}
