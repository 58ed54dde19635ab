package vmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hostmesh/mesh/lease"
)

// undo takes away what was made of a machine, and gives it up. HostDB is told before the lease log: when another box may take
// it, no write of this one can come later.
func (b *Box) undo(ctx context.Context, e Entry) error {
	if _, what, _ := b.wish(e); what == gone {
		return b.note(e.UUID, func(e *Entry) { e.Stage = Purging })
	}
	if err := b.deleteVolumes(ctx, e); err != nil {
		return err
	}
	if err := b.withdraw(ctx, e); err != nil {
		return err
	}
	if b.cfg.Records == nil {
		return errNoRecords
	}
	if err := b.freeAddress(ctx, e); err != nil {
		return err
	}
	r, version, err := readRecord(ctx, b.cfg.Records, e.UUID)
	if err != nil {
		return err
	}
	if version != 0 && r.Node == b.cfg.Node && r.State == Taken {
		r.State = Refused
		r.Tried = tried(r.Tried, Attempt{Node: b.cfg.Node, Box: b.cfg.Name, Reason: clip(e.Reason), At: b.cfg.Clock.Now().UnixMilli()})
		if _, err := b.cfg.Records.Put(ctx, RecordKey(e.UUID), Encode(r), version); errors.Is(err, lease.ErrConflict) {
			return errAgain
		} else if err != nil {
			return err
		}
	}
	b.log.Warn("a machine was given up here", "vm", e.Name, "uuid", e.UUID, "reason", e.Reason)
	b.disk.Lock()
	defer b.disk.Unlock()
	return b.drop(e)
}

// clip bounds a reason that goes into a record.
func clip(text string) string {
	const most = 512
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}

// deleteVolumes deletes what there is of a machine's disks. A caller has no slot.
func (b *Box) deleteVolumes(ctx context.Context, e Entry) error {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, name := range []string{diskName(e.UUID), seedName(e.UUID)} {
		if err := b.cfg.Hypervisor.DeleteVolume(ctx, name); err != nil {
			return err
		}
	}
	return b.deleteConsoles(e.UUID)
}

// deleteConsoles deletes what a machine's console said, with what was turned over: .log.0 and so on.
func (b *Box) deleteConsoles(uuid string) error {
	if b.cfg.Consoles == "" {
		return nil
	}
	files, err := os.ReadDir(b.cfg.Consoles)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete console: %w", err)
	}
	for _, f := range files {
		if f.Name() != uuid+".log" && !strings.HasPrefix(f.Name(), uuid+".log.") {
			continue
		}
		if err := os.Remove(filepath.Join(b.cfg.Consoles, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete console: %w", err)
		}
	}
	return nil
}

// purge takes away all of a machine. The entry goes last: what is left when the agent dies in between is found again by it.
// The name and the record go before the address rests and the entry goes, so that no record names a box that has nothing.
func (b *Box) purge(ctx context.Context, e Entry) error {
	if err := b.deleteVolumes(ctx, e); err != nil {
		return err
	}
	if b.cfg.Records == nil {
		return errNoRecords
	}
	if err := b.freeAddress(ctx, e); err != nil {
		return err
	}
	r, version, err := readRecord(ctx, b.cfg.Records, e.UUID)
	if err != nil {
		return err
	}
	if version == 0 || r.Node == b.cfg.Node {
		for _, name := range []string{e.Name, r.Name} {
			if name == "" {
				continue
			}
			if err := b.cfg.Records.FreeName(ctx, NameSpace, name, e.UUID); err != nil {
				return err
			}
		}
	}
	if version != 0 && r.Node == b.cfg.Node {
		err := b.cfg.Records.Delete(ctx, RecordKey(e.UUID), version)
		if errors.Is(err, lease.ErrConflict) {
			return errAgain
		}
		if err != nil && !errors.Is(err, lease.ErrNotFound) {
			return err
		}
	}
	b.log.Info("a machine was purged", "vm", e.Name, "uuid", e.UUID)
	b.disk.Lock()
	defer b.disk.Unlock()
	return b.drop(e)
}
