package raftdisk

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// memFS is a file system that loses power: what was not synced may be there afterwards, in part, or not. Each call that changes
// something is a step, and a test chooses at which one what happens.
type memFS struct {
	mu      sync.Mutex
	root    *memNode
	inode   uint64
	journal []nameChange // changes of names that are not durable
	step    int
	fault   func(step int, what string) fault
	machine string
	dead    bool
}

// fault is what happens at a step.
type fault int

const (
	works fault = iota
	dies        // power goes while it is done: nobody hears of it
	fails       // it was done in part, or whole, and an error is returned
)

// powerLoss is the panic that ends an operation.
type powerLoss struct{}

type memNode struct {
	inode         uint64
	dir           bool
	kids, durable map[string]*memNode
	data, synced  []byte
	pending       []memWrite
}

type memWrite struct {
	at   int64
	data []byte
}

// nameChange sets a name in up to two directories; nil = removed.
type nameChange []struct {
	dir  *memNode
	name string
	node *memNode
}

func newMemFS() *memFS {
	m := &memFS{machine: "m1"}
	m.root = m.node(true)
	return m
}

func (m *memFS) node(dir bool) *memNode {
	m.inode++
	return &memNode{inode: m.inode, dir: dir, kids: map[string]*memNode{}, durable: map[string]*memNode{}}
}

// at is asked at each step. mu is held.
func (m *memFS) at(what string) error {
	if m.dead {
		panic(powerLoss{})
	}
	m.step++
	if m.fault == nil {
		return nil
	}
	switch m.fault(m.step, what) {
	case dies:
		m.dead = true
	case fails:
		return unix.EIO
	}
	return nil
}

// done ends a step.
func (m *memFS) done() {
	if m.dead {
		panic(powerLoss{})
	}
}

// restart is what is there after the power came back. Names are a journal, of which a beginning survives; of writes any sectors.
func (m *memFS) restart(r *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commit(r.IntN(len(m.journal) + 1))
	m.journal, m.dead, m.fault = nil, false, nil
	var walk func(n *memNode)
	walk = func(n *memNode) {
		n.kids = maps.Clone(n.durable)
		n.data = slices.Clone(n.synced)
		mode := r.IntN(3) // none, all, or any
		for _, w := range n.pending {
			for at := 0; at < len(w.data); {
				end := min(len(w.data), at+512-int(w.at+int64(at))%512)
				if mode == 1 || mode == 2 && r.IntN(2) == 0 {
					n.data = writeAt(n.data, w.at+int64(at), w.data[at:end])
				}
				at = end
			}
		}
		n.pending, n.synced = nil, slices.Clone(n.data)
		for _, k := range n.kids {
			walk(k)
		}
	}
	walk(m.root)
}

// commit makes the first n changes of the journal durable.
func (m *memFS) commit(n int) {
	for _, c := range m.journal[:n] {
		for _, set := range c {
			if set.node == nil {
				delete(set.dir.durable, set.name)
			} else {
				set.dir.durable[set.name] = set.node
			}
		}
	}
	m.journal = slices.Delete(m.journal, 0, n)
}

func (m *memFS) change(c nameChange) {
	for _, set := range c {
		if set.node == nil {
			delete(set.dir.kids, set.name)
		} else {
			set.dir.kids[set.name] = set.node
		}
	}
	m.journal = append(m.journal, c)
}

func writeAt(data []byte, at int64, p []byte) []byte {
	if need := int(at) + len(p); need > len(data) {
		data = append(data, make([]byte, need-len(data))...)
	}
	copy(data[at:], p)
	return data
}

func (m *memFS) find(path string) (*memNode, error) {
	n := m.root
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		if part == "" {
			continue
		}
		if !n.dir {
			return nil, &fs.PathError{Op: "find", Path: path, Err: unix.ENOTDIR}
		}
		if n = n.kids[part]; n == nil {
			return nil, &fs.PathError{Op: "find", Path: path, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func (m *memFS) parent(path string) (*memNode, string, error) {
	n, err := m.find(filepath.Dir(path))
	return n, filepath.Base(path), err
}

func (m *memFS) Lock(string) (func(), error) { return func() {}, nil }
func (m *memFS) MachineID() (string, error)  { return m.machine, nil }

func (m *memFS) Mkdir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parent(path)
	if err != nil || dir.kids[name] != nil {
		return err
	}
	err = m.at("mkdir")
	if err == nil {
		m.change(nameChange{{dir, name, m.node(true)}})
	}
	m.done()
	return err
}

func (m *memFS) ReadDir(path string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(path)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, unix.ENOTDIR
	}
	return slices.Sorted(maps.Keys(n.kids)), nil
}

func (m *memFS) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parent(path)
	if err != nil {
		return nil, err
	}
	err = m.at("create " + name)
	n := m.node(false)
	if err == nil {
		m.change(nameChange{{dir, name, n}})
	}
	m.done()
	return &memFile{m, n, name}, err
}

func (m *memFS) Open(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(path)
	if err == nil && n.dir {
		err = unix.EISDIR
	}
	return &memFile{m, n, filepath.Base(path)}, err
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, an, err := m.parent(from)
	if err != nil {
		return err
	}
	b, bn, err := m.parent(to)
	if err != nil {
		return err
	}
	n := a.kids[an]
	if n == nil {
		return fs.ErrNotExist
	}
	err = m.at("rename " + an)
	if err == nil {
		m.change(nameChange{{a, an, nil}, {b, bn, n}})
	}
	m.done()
	return err
}

func (m *memFS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name, err := m.parent(path)
	if err != nil {
		return err
	}
	n := dir.kids[name]
	if n == nil {
		return fs.ErrNotExist
	}
	if len(n.kids) > 0 {
		return unix.ENOTEMPTY
	}
	err = m.at("remove " + name)
	if err == nil {
		m.change(nameChange{{dir, name, nil}})
	}
	m.done()
	return err
}

func (m *memFS) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(path)
	if err != nil {
		return err
	}
	if err := m.at("sync directory"); err != nil {
		return err
	}
	m.done() // or it dies before anything is durable
	last := 0
	for i, c := range m.journal {
		for _, set := range c {
			if set.dir == n {
				last = i + 1
			}
		}
	}
	m.commit(last)
	return nil
}

func (m *memFS) Identity(path string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprint("inode ", n.inode), nil
}

type memFile struct {
	fs   *memFS
	node *memNode
	name string
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.at("write " + f.name)
	n := len(p)
	if err != nil {
		n /= 2
	}
	f.node.data = writeAt(f.node.data, off, p[:n])
	f.node.pending = append(f.node.pending, memWrite{off, slices.Clone(p[:n])})
	f.fs.done()
	return n, err
}

// Sync makes durable what was written before. When it fails, that may be so or not, and is not tried again.
func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.at("sync " + f.name); err != nil {
		return err
	}
	f.fs.done()
	for _, w := range f.node.pending {
		f.node.synced = writeAt(f.node.synced, w.at, w.data)
	}
	f.node.pending = nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *memFile) Inode() (uint64, error) { return f.node.inode, nil }
func (f *memFile) Close() error           { return nil }
