package hostdb

import (
	"encoding/binary"
	"fmt"
)

// logStart is where the log of an origin begins: the operations after low are held one by one. Those up to it are folded into the
// state, and either wanted, where a replica that joined is still filling its log, or dropped by retention.
type logStart struct {
	low     uint64
	hash    Hash // of the operation at low
	filling bool
}

const logRowSize = 1 + 8 + len(Hash{}) + 1

func (l logStart) put(origin uint64) Put {
	key := rowKey('l', origin)
	if l.low == 0 {
		return Put{key, nil}
	}
	b := binary.BigEndian.AppendUint64([]byte{rowPlain}, l.low)
	b = append(b, l.hash[:]...)
	if l.filling {
		return Put{key, append(b, 1)}
	}
	return Put{key, append(b, 0)}
}

func loadLogs(st Storage) (map[uint64]logStart, error) {
	var logs map[uint64]logStart
	err := st.Scan([]byte{'l'}, nil, func(key, value []byte) error {
		if len(key) != 9 || len(value) != logRowSize || value[0] != rowPlain {
			return fmt.Errorf("row %q has a form this build does not know: install the newer hostmesh again", key)
		}
		if logs == nil {
			logs = map[uint64]logStart{}
		}
		l := logStart{low: binary.BigEndian.Uint64(value[1:]), filling: value[logRowSize-1] == 1}
		copy(l.hash[:], value[9:])
		logs[binary.BigEndian.Uint64(key[1:])] = l
		return nil
	})
	return logs, err
}

// setLogLocked takes note of where a log begins now.
func (s *Store) setLogLocked(origin uint64, l logStart) {
	if l.low == 0 {
		delete(s.logs, origin)
		return
	}
	if s.logs == nil {
		s.logs = map[uint64]logStart{}
	}
	s.logs[origin] = l
}

// fillingLocked is the number of operations that are wanted for the log and not held.
func (s *Store) fillingLocked() (n uint64) {
	for _, l := range s.logs {
		if l.filling {
			n += l.low
		}
	}
	return n
}
