package vmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
)

// handle registers what others may ask of this box.
func (b *Box) handle() {
	b.cfg.Calls.Handle(CallReserve, b.reserve)
	b.cfg.Calls.Handle(CallReboot, b.reboot)
	b.cfg.Calls.Handle(CallConsole, b.readConsole)
	b.cfg.Calls.Handle(CallPurge, b.askPurge)
	b.cfg.Calls.Handle(CallRetry, b.retry)
}

// here is an entry that a command is about.
func (b *Box) here(uuid string) (Entry, *machine, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[uuid]
	if !ok || b.machines[uuid] == nil {
		return Entry{}, nil, coded(CodeNotHere, "%s has no machine %s", b.cfg.Name, uuid)
	}
	return e, b.machines[uuid], nil
}

// unprotected refuses what would harm a protected machine, or one that others depend on now.
func (b *Box) unprotected(ctx context.Context, e Entry, what, override string) error {
	if override != "" {
		return nil
	}
	b.mu.Lock()
	db := b.db
	b.mu.Unlock()
	for _, name := range b.keysOf(e) {
		if section.ProtectedOf(db.Data(hostdb.Hosts, name)) {
			return coded(CodeProtected, "hosts/%s is Protected: to %s it, give an override with the reason, or end the protection first", name, what)
		}
	}
	if why := b.leads(ctx, e); why != "" {
		return coded(CodeProtected, "%s; to %s it all the same, give an override with the reason", why, what)
	}
	return nil
}

// keysOf are the keys in hosts that may be a machine's: of entries with its UUID, and of the one that it was made for.
func (b *Box) keysOf(e Entry) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append(slices.Clone(b.planner.ByUUID(e.UUID)), e.Name)
}

// leadsTime bounds how long it is asked whether others depend on a machine.
const leadsTime = 5 * time.Second

// leads tells why a machine must not go although nobody protects it; "" = nothing speaks against it.
func (b *Box) leads(ctx context.Context, e Entry) string {
	if b.cfg.Leads == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, leadsTime)
	defer cancel()
	names := b.keysOf(e)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if why := b.cfg.Leads(ctx, name); why != "" {
			return fmt.Sprintf("hosts/%s is needed: %s", name, why)
		}
	}
	return ""
}

// commandError gives an error of the hypervisor its code.
func commandError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrAway):
		return coded(CodeAway, "%w", err)
	case errors.Is(err, ErrRefused), errors.Is(err, ErrNoDomain):
		return coded(CodeState, "%w", err)
	}
	return err
}

func (b *Box) reboot(ctx context.Context, from mesh.Caller, req []byte) ([]byte, error) {
	var r Reboot
	if err := Decode(req, &r); err != nil {
		return nil, coded(CodeInvalid, "reboot: %w", err)
	}
	e, _, err := b.here(r.UUID)
	if err != nil {
		return nil, err
	}
	if err := b.unprotected(ctx, e, "reboot", r.Override); err != nil {
		return nil, err
	}
	if e.Stage != Held {
		return nil, coded(CodeState, "%s cannot be rebooted: it is %s on %s", e.Name, e.Stage, b.cfg.Name)
	}
	if err := b.cfg.Hypervisor.Reboot(ctx, e.UUID, r.Hard); err != nil {
		return nil, commandError(err)
	}
	b.log.Info("vm rebooted", "vm", e.Name, "uuid", e.UUID, "hard", r.Hard, "by", r.By, "node", from.Name, "override", r.Override)
	return Encode(Done{Text: fmt.Sprintf("%s boots again", e.Name)}), nil
}

func (b *Box) askPurge(ctx context.Context, from mesh.Caller, req []byte) ([]byte, error) {
	var r Purge
	if err := Decode(req, &r); err != nil {
		return nil, coded(CodeInvalid, "purge: %w", err)
	}
	e, m, err := b.here(r.UUID)
	if err != nil { // its ledger may have been lost
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		name, err := b.purgeLost(ctx, r.UUID, r.Override)
		if err != nil {
			return nil, err
		}
		b.log.Info("vm is purged that the ledger does not know", "vm", name, "uuid", r.UUID, "by", r.By, "node", from.Name, "override", r.Override)
		return Encode(Done{Text: fmt.Sprintf("what was left of %s on %s is gone", name, b.cfg.Name)}), nil
	}
	if err := b.unprotected(ctx, e, "purge", r.Override); err != nil {
		return nil, err
	}
	switch e.Stage {
	case Destroying, Kept, Purging:
	default:
		return nil, coded(CodeState, "%s is not deleted (%s): hostmesh vm destroy %s comes first", e.Name, e.Stage, e.Name)
	}
	m.mu.Lock()
	m.purge = true
	m.mu.Unlock()
	m.hurry()
	b.log.Info("vm is purged before its time", "vm", e.Name, "uuid", e.UUID, "by", r.By, "node", from.Name, "override", r.Override)
	return Encode(Done{Text: fmt.Sprintf("the disks of %s go now", e.Name)}), nil
}

func (b *Box) retry(ctx context.Context, from mesh.Caller, req []byte) ([]byte, error) {
	var r Retry
	if err := Decode(req, &r); err != nil {
		return nil, coded(CodeInvalid, "retry: %w", err)
	}
	e, m, err := b.here(r.UUID)
	if err == nil {
		m.hurry()
		b.log.Info("vm is tried again", "vm", e.Name, "uuid", e.UUID, "by", r.By, "node", from.Name)
		return Encode(Done{Text: fmt.Sprintf("%s is tried again on %s", e.Name, b.cfg.Name)}), nil
	}
	// No box has it: then any node of its datacenter may let the placer begin anew.
	if b.cfg.Records == nil {
		return nil, err
	}
	rec, version, rerr := readRecord(ctx, b.cfg.Records, r.UUID)
	if rerr != nil {
		return nil, rerr
	}
	if version == 0 || rec.State != Refused {
		return nil, err
	}
	rec.Tried = nil
	if _, err := b.cfg.Records.Put(ctx, RecordKey(r.UUID), Encode(rec), version); err != nil {
		return nil, err
	}
	return Encode(Done{Text: fmt.Sprintf("a box is looked for anew for %s", rec.Name)}), nil
}

// consolePoll is how often a console is looked at while somebody waits for it.
const consolePoll = 250 * time.Millisecond

func (b *Box) readConsole(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
	var r ConsoleRead
	if err := Decode(req, &r); err != nil {
		return nil, coded(CodeInvalid, "console: %w", err)
	}
	e, _, err := b.here(r.UUID)
	if err != nil {
		return nil, err
	}
	if e.Domain == nil || e.Domain.Console == "" {
		return nil, coded(CodeState, "%s has no console yet", e.Name)
	}
	if r.Max <= 0 || r.Max > MaxConsole {
		r.Max = MaxConsole
	}
	end := time.Now().Add(min(time.Duration(max(r.WaitMS, 0))*time.Millisecond, 30*time.Second))
	for {
		part, err := readPart(e.Domain.Console, r.Offset, r.Max)
		if err != nil {
			return nil, coded(CodeState, "console of %s: %w", e.Name, err)
		}
		if len(part.Data) > 0 || !time.Now().Before(end) {
			return Encode(part), nil
		}
		r.Offset = part.Next
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(consolePoll):
		}
	}
}

// readPart reads a part of a file that somebody else writes. One that is shorter than the offset was begun anew.
func readPart(path string, offset int64, most int) (ConsolePart, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ConsolePart{}, nil // nothing was written yet
	}
	if err != nil {
		return ConsolePart{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ConsolePart{}, err
	}
	switch {
	case offset < 0:
		offset = max(info.Size()+offset, 0)
	case offset > info.Size():
		offset = 0
	}
	buf := make([]byte, min(int64(most), info.Size()-offset))
	n, err := f.ReadAt(buf, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return ConsolePart{}, err
	}
	return ConsolePart{Data: buf[:n], Next: offset + int64(n)}, nil
}
