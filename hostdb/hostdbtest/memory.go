// Package hostdbtest helps to test what stands on a hostdb.Storage, and the Storages themselves.
//
// It owns Memory, a Storage in memory that fails and crashes on demand, and TestStorage, the contract of
// hostdb.Storage as a test. What a particular Storage promises beyond the contract is tested in its own package.
package hostdbtest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"hostmesh/hostdb"
)

// The limits of a new Memory are those of badgerdb, so that a test meets what an agent meets.
const (
	DefaultBatchBytes = 3 << 19 // 1.5 MiB
	DefaultBatchPuts  = 6144
	maxKey            = 47 << 10
)

// ErrClosed is returned by a closed Memory.
var ErrClosed = errors.New("memory storage is closed")

// Memory is a hostdb.Storage that forgets everything when the process ends. Its zero value is not usable: NewMemory
// makes one. All methods are safe for concurrent use.
//
// To test a crash: take a Snapshot in a hook, or at any moment, and open the code under test on it. A Snapshot is
// cheap (it shares what is equal), so a test may take one at each commit.
type Memory struct {
	commitMu sync.Mutex // one commit at a time, with its hooks

	mu         sync.RWMutex // guards the fields below; not held while hooks and callbacks run
	tree       *node
	len        int
	commits    int
	closed     bool
	batchBytes int
	batchPuts  int
	failBefore error
	failAfter  error
	hooks      Hooks
}

var _ hostdb.Storage = (*Memory)(nil)

// Hooks are called in each Commit that passes the checks, one commit at a time. They may call every method but
// Commit, Reopen and Close. An error they return is Commit's.
type Hooks struct {
	// Before is called before the batch is stored. After an error nothing of it is.
	Before func(batch []hostdb.Put) error
	// After is called after the batch was stored. An error leaves it stored, as a crash before the answer would.
	After func(batch []hostdb.Put) error
}

// NewMemory returns an empty Storage.
func NewMemory() *Memory {
	return &Memory{batchBytes: DefaultBatchBytes, batchPuts: DefaultBatchPuts}
}

// SetMaxBatch changes what one Commit takes.
func (m *Memory) SetMaxBatch(bytes, puts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batchBytes, m.batchPuts = bytes, puts
}

// SetHooks replaces the hooks.
func (m *Memory) SetHooks(h Hooks) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks = h
}

// FailNextCommit makes the next Commit return an error that wraps err, with nothing stored. Nil cancels.
func (m *Memory) FailNextCommit(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failBefore = err
}

// FailNextCommitStored makes the next Commit return an error that wraps err although the batch is stored: the caller
// of a real Storage cannot tell this from FailNextCommit. Nil cancels.
func (m *Memory) FailNextCommitStored(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failAfter = err
}

// Snapshot returns an open Storage of its own with what is stored now: what a crash at this moment would leave. It has
// the same limits and no hooks. It works on a closed Memory too.
func (m *Memory) Snapshot() *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Memory{tree: m.tree, len: m.len, batchBytes: m.batchBytes, batchPuts: m.batchPuts}
}

// Reopen closes m and returns its Snapshot, as a restart would.
func (m *Memory) Reopen() *Memory {
	_ = m.Close() // it returns nil
	return m.Snapshot()
}

// Len is the number of keys.
func (m *Memory) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.len
}

// Commits is how many batches were stored since NewMemory, Snapshot or Reopen.
func (m *Memory) Commits() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.commits
}

// Get implements hostdb.Storage.
func (m *Memory) Get(key []byte) (value []byte, found bool, err error) {
	tree, err := m.state()
	if err != nil {
		return nil, false, fmt.Errorf("get: %w", err)
	}
	n := tree.find(key)
	if n == nil {
		return nil, false, nil
	}
	return append([]byte{}, n.value...), true, nil
}

// Scan implements hostdb.Storage. The slices it gives to fn are copies that it overwrites when fn returns, so that a
// caller who keeps them notices.
func (m *Memory) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	tree, err := m.state()
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	start := prefix
	if bytes.Compare(from, prefix) > 0 {
		start = from
	}
	for n := range tree.from(start) {
		if !bytes.HasPrefix(n.key, prefix) {
			break
		}
		key, value := bytes.Clone(n.key), append([]byte{}, n.value...)
		err := fn(key, value)
		spoil(key)
		spoil(value)
		if err != nil {
			return err
		}
	}
	return nil
}

// ScanBack implements hostdb.Storage, as Scan does.
func (m *Memory) ScanBack(prefix, from []byte, fn func(key, value []byte) error) error {
	tree, err := m.state()
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	for n := range tree.back(prefix, from) {
		key, value := bytes.Clone(n.key), append([]byte{}, n.value...)
		err := fn(key, value)
		spoil(key)
		spoil(value)
		if err != nil {
			return err
		}
	}
	return nil
}

func spoil(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}

func (m *Memory) state() (*node, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	return m.tree, nil
}

// Commit implements hostdb.Storage.
func (m *Memory) Commit(batch []hostdb.Put) error {
	m.commitMu.Lock()
	defer m.commitMu.Unlock()
	hooks, err := m.begin(batch)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if len(batch) == 0 {
		return nil
	}
	if hooks.Before != nil {
		if err := hooks.Before(batch); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	if err := m.store(batch); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if hooks.After != nil {
		if err := hooks.After(batch); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	return nil
}

func (m *Memory) begin(batch []hostdb.Put) (Hooks, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Hooks{}, ErrClosed
	}
	size := 0
	for _, p := range batch {
		if len(p.Key) > maxKey {
			return Hooks{}, fmt.Errorf("a key of %d bytes: at most %d are possible", len(p.Key), maxKey)
		}
		size += len(p.Key) + len(p.Value)
	}
	if size > m.batchBytes || len(batch) > m.batchPuts {
		return Hooks{}, fmt.Errorf("%d puts with %d bytes, at most %d puts with %d bytes are possible: %w",
			len(batch), size, m.batchPuts, m.batchBytes, hostdb.ErrBatchTooLarge)
	}
	err := m.failBefore
	m.failBefore = nil
	return m.hooks, err
}

func (m *Memory) store(batch []hostdb.Put) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tree, n := m.tree, m.len
	for _, p := range batch {
		known := tree.find(p.Key) != nil
		switch {
		case p.Value != nil:
			tree = tree.set(&node{key: bytes.Clone(p.Key), value: append([]byte{}, p.Value...), weight: weight(p.Key)})
			if !known {
				n++
			}
		case known:
			tree = tree.delete(p.Key)
			n--
		}
	}
	m.tree, m.len = tree, n
	m.commits++
	err := m.failAfter
	m.failAfter = nil
	return err
}

// MaxBatch implements hostdb.Storage.
func (m *Memory) MaxBatch() (bytes, puts int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.batchBytes, m.batchPuts
}

// Close implements hostdb.Storage. What is stored stays reachable through Snapshot.
func (m *Memory) Close() error {
	m.commitMu.Lock() // as a real Storage, wait for the commit under way
	defer m.commitMu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
