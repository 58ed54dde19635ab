package lease

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// machine is raft's view of the state (raft.FSM): it folds committed entries and tells who waits. Readers lock it.
type machine struct {
	mu      sync.RWMutex // guards the fields below
	s       *state
	broken  error         // an entry that this build cannot fold: nothing that it answered would be true
	changed chan struct{} // closed and made anew with every entry
}

func newMachine() *machine { return &machine{s: newState(), changed: make(chan struct{})} }

// Apply folds one entry.
func (m *machine) Apply(l *raft.Log) any {
	o, err := decodeOp(l.Data)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return outcome{Err: m.broken}
	}
	if err != nil {
		m.broken = fmt.Errorf("entry %d of the log: %w", l.Index, err)
		return outcome{Err: m.broken}
	}
	if o.Term != 0 && o.Term != l.Term {
		// Whoever decided this had lost its office meanwhile, though it leads again: what it rested on may be over.
		return outcome{Err: fmt.Errorf("%w: it was decided in term %d, and proposed in %d", errNotProposed, o.Term, l.Term)}
	}
	out := m.s.apply(l.Index, o)
	if isNewer(out.Err) {
		m.broken = fmt.Errorf("entry %d of the log: %w", l.Index, out.Err)
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return out
}

// Snapshot encodes the state: it is small, and encoding it takes less time than copying it would save.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.broken != nil {
		return nil, m.broken
	}
	return persisted(m.s.encode()), nil
}

// Restore replaces the state.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	s, err := decodeState(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.broken = err
		return err
	}
	m.s = s
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

// read calls f with the state, which f must neither keep nor change.
func (m *machine) read(f func(*state)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.s)
}

// next is closed with the next entry.
func (m *machine) next() <-chan struct{} {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.changed
}

func (m *machine) failure() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.broken
}

// persisted is an encoded state on its way to the disk.
type persisted []byte

// Persist writes it.
func (p persisted) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(p); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

// Release has nothing to do.
func (p persisted) Release() {}
