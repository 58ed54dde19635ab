package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"hostmesh/lbd/mysqlha"
)

// stateFormat is the version of the file of a cluster.
const stateFormat = 1

// state is what a host has promised about its server of a cluster. The zero state is that of a host that was never told anything.
type state struct {
	Format int    `json:"format"`
	Tag    string `json:"tag"`
	// Epoch and Fence are of the latest order seen.
	Epoch uint64 `json:"epoch"`
	Fence uint64 `json:"fence"`
	// Marked is why the server is not to start; "" = it may. MarkedAt is the epoch of the order that said so. Shut says that its port is shut for
	// others than this host.
	Marked   string `json:"marked,omitempty"`
	MarkedAt uint64 `json:"marked_at,omitempty"`
	Shut     bool   `json:"shut,omitempty"`
	// Cuts are servers that this host hears nothing of; those of port 0 are addresses that do not reach the own server. Sorted.
	Cuts []netip.AddrPort `json:"cuts,omitempty"`
	// Role is as what it was started last, here; "" = it was not.
	Role mysqlha.Role `json:"role,omitempty"`
	// Ended is why it was ended by an order; "" = if it does not run, then not by one.
	Ended string `json:"ended,omitempty"`
	// Ran says that a process was seen since.
	Ran bool `json:"ran,omitempty"`
	// Address says that the address of the primary is to be here, as far as a tenure allows.
	Address bool `json:"address,omitempty"`
	// Donates says that a copy is made of the server, for which its replication may be stopped.
	Donates bool `json:"donates,omitempty"`
	// Clone is one that has not ended.
	Clone *journal `json:"clone,omitempty"`
	// Copy says that the data are a copy that nobody has found right, or will be one as soon as Clone has ended; nil = they are not.
	Copy *mysqlha.Unverified `json:"copy,omitempty"`
}

func (s state) clone() state {
	s.Cuts = slices.Clone(s.Cuts)
	if s.Clone != nil {
		j := *s.Clone
		s.Clone = &j
	}
	if s.Copy != nil {
		c := *s.Copy
		s.Copy = &c
	}
	return s
}

// store keeps a state, on disk.
type store struct {
	path string

	writing sync.Mutex // orders writers
	mu      sync.Mutex // guards the fields below; never held while the disk works
	state   state
	damaged error
	unsaved bool // the disk does not have it
}

// openStore reads the file of a tag, or begins without one.
func openStore(dir, tag string) *store {
	s := &store{path: filepath.Join(dir, url.PathEscape(tag)+".json"), state: state{Format: stateFormat, Tag: tag}}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	var read state
	if err == nil {
		err = json.Unmarshal(text, &read)
	}
	switch {
	case err != nil:
	case read.Format != stateFormat:
		err = fmt.Errorf("it is of format %d, and this build knows %d: use the build that wrote it", read.Format, stateFormat)
	case read.Tag != tag:
		err = fmt.Errorf("it is about %q", read.Tag)
	default:
		s.state = read
		return s
	}
	s.damaged = fmt.Errorf("%w: %s cannot be used: %w; find out with hostmesh mysql status who is the primary, make sure that this host's server is not another one that takes writes "+
		"(it may have been fenced), then remove the file, and restart the agent", ErrDamaged, s.path, err)
	return s
}

func (s *store) get() (state, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.clone(), s.damaged
}

// admit says whether an order may be carried out: nobody with a higher epoch or number was here.
func (s *store) admit(o mysqlha.Order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damaged != nil {
		return s.damaged
	}
	return s.state.admit(o)
}

func (s state) admit(o mysqlha.Order) error {
	if o.Tag != s.Tag {
		return fmt.Errorf("%w: %q", mysqlha.ErrNotHere, o.Tag)
	}
	if o.Before(mysqlha.Order{Epoch: s.Epoch, Fence: s.Fence}) {
		return fmt.Errorf("%w: the order is of epoch %d and number %d, and this host has seen epoch %d and number %d; if the record of the cluster was lost and is older: hostmesh mysql setup %s",
			mysqlha.ErrOvertaken, o.Epoch, o.Fence, s.Epoch, s.Fence, s.Tag)
	}
	return nil
}

// order takes an order: what edit does to the state is on disk when it returns nil, and is nowhere otherwise.
func (s *store) order(o mysqlha.Order, edit func(*state)) error { return s.write(&o, edit, false) }

// restrain is order for what makes the host do less. It holds for this process even when the disk fails.
func (s *store) restrain(o mysqlha.Order, edit func(*state)) error { return s.write(&o, edit, true) }

// note is order for what no order is the cause of.
func (s *store) note(edit func(*state)) error { return s.write(nil, edit, true) }

func (s *store) write(o *mysqlha.Order, edit func(*state), anyway bool) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	next, err := s.get()
	if err != nil {
		return err
	}
	before, _ := json.Marshal(next)
	if o != nil {
		if err := next.admit(*o); err != nil {
			return err
		}
		next.Epoch, next.Fence = o.Epoch, o.Fence
	}
	if edit != nil {
		edit(&next)
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if string(text) == string(before) && !s.dirty() {
		return nil
	}
	if anyway {
		s.set(next, true)
	}
	if err := replaceFile(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("write what this host promises about the server: %w", err)
	}
	s.set(next, false)
	return nil
}

func (s *store) set(next state, unsaved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.unsaved = next, unsaved
}

func (s *store) dirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsaved
}

// replaceFile replaces a file, and returns when that is on disk.
func replaceFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // there is none when it was renamed
	if _, err = tmp.Write(text); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
