package raftdisk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Group is the raft group that a directory belongs to.
type Group struct {
	ID         string `json:"id"`
	Generation uint64 `json:"generation"`
	Datacenter string `json:"datacenter"`
	Home       bool   `json:"home,omitempty"`
	Branch     uint32 `json:"branch,omitempty"`
}

const (
	groupFile        = "group.json"
	groupFileVersion = 1

	foundingPending = "pending"
	foundingDone    = "done"
)

type groupRecord struct {
	Version  int    `json:"version"`
	Group    Group  `json:"group"`
	Founding string `json:"founding,omitempty"` // "" = another node founded it
}

// readGroup returns nil when there is no record.
func readGroup(fsys FS, dir string) (*groupRecord, error) {
	path := filepath.Join(dir, groupFile)
	text, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r groupRecord
	if err := decodeFile(path, text, groupFileVersion, &r, func() int { return r.Version }); err != nil {
		return nil, err
	}
	if r.Group.ID == "" {
		return nil, damaged(path, 0, "it names no group")
	}
	return &r, nil
}

// decodeFile reads a versioned file of JSON. A newer one may be of any form, as long as it names its version.
func decodeFile(path string, text []byte, newest int, into any, version func() int) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return damaged(path, 0, "%v", err)
	}
	if v.Version > newest {
		return fmt.Errorf("%s: %w: it has version %d, this build reads up to %d", path, ErrFormat, v.Version, newest)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return damaged(path, 0, "%v", err)
	}
	if version() < 1 {
		return damaged(path, 0, "it names no version")
	}
	return nil
}

func encodeJSON(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}

// Group is the group that this directory belongs to; false when it belongs to none.
func (d *Disk) Group() (Group, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.group == nil {
		return Group{}, false
	}
	return d.group.Group, true
}

// SetGroup records the group, durably when it returns nil. What is known of its founding stays while the id does.
func (d *Disk) SetGroup(g Group) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := groupRecord{Version: groupFileVersion, Group: g}
	if d.group != nil && d.group.Group.ID == g.ID {
		r.Founding = d.group.Founding
	}
	return d.saveGroup(r)
}

// Found records that this directory founds a group, which is pending until Bootstrapped. To found the same again is no error while it
// is pending. The order is: Found, raft.BootstrapCluster unless HasState, Bootstrapped, raft.NewRaft.
func (d *Disk) Found(g Group) error {
	has, err := d.HasState()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.group != nil && d.group.Founding == foundingPending && d.group.Group == g:
		return nil
	case d.group != nil:
		return fmt.Errorf("found group %s in %s: %w: group %s of %s", g.ID, d.cfg.Path, ErrFounded, d.group.Group.ID, d.group.Group.Datacenter)
	case has:
		return fmt.Errorf("found group %s in %s: %w: it has raft state; discard that first", g.ID, d.cfg.Path, ErrFounded)
	}
	return d.saveGroup(groupRecord{groupFileVersion, g, foundingPending})
}

// Bootstrapped records that the founding is done. From then on the directory is never pending again, whatever becomes of its state.
func (d *Disk) Bootstrapped() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.group == nil || d.group.Founding == "" {
		return fmt.Errorf("end the founding in %s: no group is founded there", d.cfg.Path)
	}
	if d.group.Founding == foundingDone {
		return nil
	}
	r := *d.group
	r.Founding = foundingDone
	return d.saveGroup(r)
}

// Pending reports whether this directory is to found its group, and has not.
func (d *Disk) Pending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.group != nil && d.group.Founding == foundingPending
}

// saveGroup writes the record. mu is held.
func (d *Disk) saveGroup(r groupRecord) error {
	if d.closed {
		return ErrClosed
	}
	if r.Group.ID == "" {
		return fmt.Errorf("record the raft group in %s: it has no id", d.cfg.Path)
	}
	err := replaceFile(d.cfg.FS, filepath.Join(d.cfg.Path, groupFile), func(string) ([]byte, error) { return encodeJSON(r) })
	if err != nil {
		return fmt.Errorf("record the raft group in %s: %w", d.cfg.Path, err)
	}
	d.group = &r
	return nil
}
