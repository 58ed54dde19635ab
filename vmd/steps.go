package vmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
	"hostmesh/vmd/plan"
)

var (
	// errAgain says that it must be looked again in a moment.
	errAgain = errors.New("not yet")
	// errLost is the error of a machine whose disk is gone.
	errLost = errors.New("its disk is gone from this box, and is not made anew, for what was on it is lost: restore the volume, or destroy the machine")
)

// act does one action. Each can be done again.
func (m *machine) act(ctx context.Context, a action, e Entry, seen sight) error {
	b, hv := m.box, m.box.cfg.Hypervisor
	if a == actImage {
		return m.fetch(ctx, seen.wish.Image)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	switch a {
	case actSettle:
		return m.settle(ctx, e)
	case actRename:
		return b.rename(ctx, e, seen.wish.Name)
	case actAddress:
		return b.address(ctx, e.UUID, seen.wish)
	case actSay:
		return b.publish(ctx, e, seen.wish)
	case actDisk:
		return m.volume(ctx, e, seen.wish)
	case actSeed:
		return m.seed(ctx, e, seen.wish)
	case actCompose:
		return m.compose(ctx, e, seen.wish)
	case actDefine:
		return m.define(ctx, e)
	case actStart:
		return m.start(ctx, e)
	case actResize:
		return m.resize(ctx, e, seen)
	case actShutdown:
		m.asked = b.cfg.Clock.Now()
		return hv.Shutdown(ctx, e.UUID)
	case actCut:
		if m.asked.IsZero() {
			m.asked = b.cfg.Clock.Now() // it did not end by itself
		}
		return hv.Destroy(ctx, e.UUID)
	case actLeave:
		reason := seen.wish.Problem
		if reason == "" {
			reason = "a domain that somebody else made has its UUID"
		}
		return b.note(e.UUID, func(e *Entry) { e.Stage, e.Reason = Leaving, reason })
	case actUndo:
		return b.undo(ctx, e)
	case actTicket:
		return b.mayDestroy(ctx, e)
	case actReinstate:
		m.mu.Lock()
		m.purge = false
		m.mu.Unlock()
		if b.cfg.Records == nil {
			return errNoRecords
		}
		if err := b.cfg.Records.ClaimName(ctx, NameSpace, seen.wish.Name, e.UUID); err != nil { // free since it was destroyed
			return err
		}
		return b.reserveFor(e.UUID, plan.Room{CPUs: e.CPUs, Memory: e.Memory, Disk: e.Disk}, func(e *Entry) {
			e.Stage, e.Until = Held, 0
			e.Name = seen.wish.Name
		})
	case actUndefine:
		return hv.Undefine(ctx, e.UUID)
	case actKeep:
		// Another machine may have the name now; its disks are found by the UUID.
		if b.cfg.Records == nil {
			return errNoRecords
		}
		if err := b.cfg.Records.FreeName(ctx, NameSpace, e.Name, e.UUID); err != nil {
			return err
		}
		until := b.cfg.Clock.Now().Add(b.cfg.Keep).UnixMilli()
		return b.note(e.UUID, func(e *Entry) { e.Stage, e.Until = Kept, until })
	case actDoom:
		return b.note(e.UUID, func(e *Entry) { e.Stage = Purging })
	case actPurge:
		return b.purge(ctx, e)
	case actLost:
		return errLost
	}
	return fmt.Errorf("no action %q", a)
}

// fetch brings an image here. It takes as long as it takes, and holds up nobody who needs none.
func (m *machine) fetch(ctx context.Context, name string) error {
	<-m.box.slots // given back for as long as it waits
	defer func() { m.box.slots <- struct{}{} }()
	select {
	case m.box.fetches <- struct{}{}:
		defer func() { <-m.box.fetches }()
	case <-ctx.Done():
		return ctx.Err()
	}
	img, err := m.box.cfg.Images.Ensure(ctx, name)
	if err != nil {
		return err
	}
	img.Name = name
	m.image = &img
	return nil
}

// settle finds out what became of a reservation. One that was never taken is given up by writing that into the record, so that
// no answer which is still on its way can turn it into a taken one afterwards.
func (m *machine) settle(ctx context.Context, e Entry) error {
	b := m.box
	r, version, err := readRecord(ctx, b.cfg.Records, e.UUID)
	if err != nil {
		return err
	}
	// A later offer to this box may be on its way to it.
	over := b.cfg.Clock.Now().After(time.UnixMilli(max(e.Expires, r.Expires)).Add(settleTime))
	switch {
	case version != 0 && r.Node == b.cfg.Node && r.State == Taken:
		return b.note(e.UUID, func(e *Entry) { e.Stage = Held })
	case version != 0 && r.Node == b.cfg.Node && r.State == Offered && !over:
		m.settled = true // the placer may ask again until it is over
		return errAgain
	case version != 0 && r.Node == b.cfg.Node && r.State == Offered:
		r.State = Refused
		if _, err := b.cfg.Records.Put(ctx, RecordKey(e.UUID), Encode(r), version); errors.Is(err, lease.ErrConflict) {
			return errAgain
		} else if err != nil {
			return err
		}
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	if now, ok := b.entry(e.UUID); !ok || now.Stage != Reserving || now.Fence != e.Fence {
		return errAgain // offered anew meanwhile
	}
	return b.drop(e)
}

// rename takes over another key of a machine's host: the new name is claimed before it is written down, and the old one is free
// when that is done.
func (b *Box) rename(ctx context.Context, e Entry, name string) error {
	if b.cfg.Records == nil {
		return errNoRecords
	}
	if err := b.cfg.Records.ClaimName(ctx, NameSpace, name, e.UUID); err != nil {
		return err
	}
	if err := b.cfg.Records.FreeName(ctx, NameSpace, e.Name, e.UUID); err != nil {
		return err
	}
	b.log.Info("the host of a machine was renamed", "vm", name, "was", e.Name, "uuid", e.UUID)
	return b.note(e.UUID, func(e *Entry) { e.Name = name })
}

// publish writes into HostDB where a machine is. What a person entered is left.
func (b *Box) publish(ctx context.Context, e Entry, w plan.Wish) error {
	if !e.Seen {
		if err := b.note(e.UUID, func(e *Entry) { e.Seen = true }); err != nil {
			return err
		}
	}
	req := hostdb.Request{User: "vmd", Log: fmt.Sprintf("vm: %s carries it", b.cfg.Name)}
	_, err := b.cfg.DB.Update(ctx, req, func(tx *hostdb.Tx) error {
		doc := tx.View().Data(hostdb.Hosts, w.Name)
		if !strings.EqualFold(doc.Text("VM", "UUID"), e.UUID) {
			return hostdb.ErrNotFound // deleted meanwhile
		}
		if doc.Text("VM", "Box") != b.cfg.Name {
			if err := putText(tx, w.Name, b.cfg.Name, "VM", "Box"); err != nil {
				return err
			}
		}
		if !doc.At("Network").IsMapping() && (e.IP.IsValid() || e.MAC != "") {
			if err := tx.PutPath(hostdb.Hosts, w.Name, []string{"Network"}, emptyMapping); err != nil {
				return err
			}
		}
		if e.IP.IsValid() && doc.Text("Network", "IP") == "" {
			if err := putText(tx, w.Name, e.IP.String(), "Network", "IP"); err != nil {
				return err
			}
		}
		if e.MAC != "" && doc.Text("Network", "MAC") == "" {
			return putText(tx, w.Name, e.MAC, "Network", "MAC")
		}
		return nil
	})
	if errors.Is(err, hostdb.ErrNotFound) {
		return errAgain
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.follow(b.cfg.DB.View()) // the worker goes on with what it wrote
	b.mu.Unlock()
	return nil
}

var emptyMapping = func() hostdb.Document {
	d, err := hostdb.ParseDocument([]byte("{}"))
	if err != nil {
		panic(err) // a constant
	}
	return d
}()

func putText(tx *hostdb.Tx, key, text string, path ...string) error {
	return tx.PutPath(hostdb.Hosts, key, path, hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(text)}))
}

// withdraw takes out of HostDB what publish wrote there.
func (b *Box) withdraw(ctx context.Context, e Entry) error {
	req := hostdb.Request{User: "vmd", Log: fmt.Sprintf("vm: %s cannot carry it: %s", b.cfg.Name, e.Reason)}
	if len(req.Log) > 1024 {
		req.Log = req.Log[:1024]
	}
	_, err := b.cfg.DB.Update(ctx, req, func(tx *hostdb.Tx) error {
		for _, name := range b.hostsOf(e) {
			doc := tx.View().Data(hostdb.Hosts, name)
			if !strings.EqualFold(doc.Text("VM", "UUID"), e.UUID) || doc.Text("VM", "Box") != b.cfg.Name {
				continue
			}
			paths := [][]string{{"VM", "Box"}}
			if doc.Text("Network", "IP") == e.IP.String() && !e.ByHand {
				paths = append(paths, []string{"Network", "IP"})
			}
			if doc.Text("Network", "MAC") == plan.MAC(b.cfg.Mesh, e.UUID).String() {
				paths = append(paths, []string{"Network", "MAC"})
			}
			for _, p := range paths {
				if err := tx.DeletePath(hostdb.Hosts, name, p); err != nil && !errors.Is(err, hostdb.ErrNotFound) {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.follow(b.cfg.DB.View())
	b.mu.Unlock()
	return nil
}

func (b *Box) hostsOf(e Entry) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.follow(b.cfg.DB.View())
	return b.planner.ByUUID(e.UUID)
}

// guest is what a machine is told of itself.
func (b *Box) guest(e Entry, w plan.Wish) Guest {
	g := Guest{UUID: e.UUID, Name: w.Name, FQDN: w.FQDN, Gateway: w.Subnet.Gateway, Settings: w.Guest}
	g.MAC, _ = net.ParseMAC(e.MAC) // written by this package
	if e.IP.IsValid() && w.Subnet.CIDR.IsValid() {
		g.Addr = netip.PrefixFrom(e.IP, w.Subnet.CIDR.Bits())
	}
	return g
}

func (m *machine) volume(ctx context.Context, e Entry, w plan.Wish) (err error) {
	m.disk, err = m.box.cfg.Hypervisor.CreateVolume(ctx, diskName(e.UUID), m.image.Base, m.image.Format, max(w.Disk, m.image.Size))
	return err
}

func (m *machine) seed(ctx context.Context, e Entry, w plan.Wish) error {
	content, err := m.box.cfg.Images.Seed(m.box.guest(e, w))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadImage, err)
	}
	m.iso, err = m.box.cfg.Hypervisor.WriteVolume(ctx, seedName(e.UUID), bytes.NewReader(content), int64(len(content)))
	return err
}

// compose writes down what is to be defined. The paths of volumes are the hypervisor's, which tells them when they are made.
func (m *machine) compose(ctx context.Context, e Entry, w plan.Wish) error {
	b, img := m.box, m.image
	g := b.guest(e, w)
	d := plan.Domain{Name: w.Name, UUID: e.UUID, Mesh: b.cfg.Mesh, CPUs: w.CPUs, Memory: w.Memory, MAC: g.MAC, IP: e.IP,
		Kernel: img.Kernel, Initrd: img.Initrd, Bridge: w.Subnet.Bridge}
	if w.Subnet.Tag == "" {
		d.Bridge, d.MAC = "", nil
	}
	disk := max(w.Disk, img.Size)
	var err error
	if img.Base != "" || w.Disk > 0 {
		if m.disk == "" || w.Disk != e.Disk { // another run made it, or it is to be larger by now
			if err := m.volume(ctx, e, w); err != nil {
				return err
			}
		}
		d.Disk = m.disk
	}
	if img.Kernel != "" {
		if d.Cmdline, err = b.cfg.Images.Cmdline(img.Cmdline, g); err != nil {
			return fmt.Errorf("%w: %w", ErrBadImage, err)
		}
	} else {
		if m.iso == "" {
			if err := m.seed(ctx, e, w); err != nil {
				return err
			}
		}
		d.Seed = m.iso
	}
	if b.cfg.Consoles != "" {
		d.Console = b.console(e.UUID)
	}
	return b.reserveFor(e.UUID, plan.Room{CPUs: w.CPUs, Memory: w.Memory, Disk: disk}, func(e *Entry) {
		e.Domain, e.Seen = &d, true
		e.CPUs, e.Memory, e.Disk = w.CPUs, w.Memory, disk
	})
}

func (b *Box) console(uuid string) string { return filepath.Join(b.cfg.Consoles, uuid+".log") }

// errNoRoom is returned when a box cannot give what is asked for.
var errNoRoom = errors.New("this box has no room for it")

// reserveFor changes an entry if the box can give what it is to have.
func (b *Box) reserveFor(uuid string, want plan.Room, change func(*Entry)) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	e, ok := b.entry(uuid)
	if !ok {
		return errGone
	}
	b.mu.Lock()
	total, used := b.room(uuid)
	b.mu.Unlock()
	// What it has already cannot be taken from it by a smaller Box.
	has := plan.Room{CPUs: e.CPUs, Memory: e.Memory, Disk: e.Disk}
	if e.Stage == Kept { // only its disks were counted
		has.CPUs, has.Memory = 0, 0
	}
	over := want.CPUs > has.CPUs && used.CPUs+want.CPUs > total.CPUs ||
		want.Memory > has.Memory && used.Memory+want.Memory > total.Memory ||
		want.Disk > has.Disk && used.Disk+want.Disk > total.Disk
	if over {
		return fmt.Errorf("%w: %s", errNoRoom, lacks(total, used, want))
	}
	change(&e)
	return b.save(e)
}

// define defines what was written down. A name that another machine of this mesh has on this box, because a host was renamed
// and another got its name, is told apart by the UUID.
func (m *machine) define(ctx context.Context, e Entry) error {
	b := m.box
	list, err := b.cfg.Hypervisor.List(ctx)
	if err != nil {
		return err
	}
	d := *e.Domain
	for _, other := range list {
		switch {
		case other.UUID == e.UUID || other.Name != d.Name:
		case other.Mesh != b.cfg.Mesh:
			return fmt.Errorf("%w: a domain named %s is on this box (%s), which hostmesh did not make: rename or undefine it", ErrRefused, d.Name, other.UUID)
		default:
			d.Name += "-" + e.UUID[:8]
		}
	}
	if d.Name != e.Domain.Name {
		if err := b.note(e.UUID, func(e *Entry) { e.Domain = &d }); err != nil {
			return err
		}
	}
	return b.cfg.Hypervisor.Define(ctx, d)
}

// start starts a domain. That it ran is written down before, for an agent that dies in between cannot know; where the start
// is seen to fail it is taken back.
func (m *machine) start(ctx context.Context, e Entry) error {
	b := m.box
	first := !e.Ran
	if first {
		if err := b.note(e.UUID, func(e *Entry) { e.Ran = true }); err != nil {
			return err
		}
	}
	err := b.cfg.Hypervisor.Start(ctx, e.UUID)
	if err == nil {
		return nil
	}
	if !first {
		return err
	}
	d, gerr := b.cfg.Hypervisor.Get(ctx, e.UUID)
	if gerr == nil && domainOf(d, b.cfg.Mesh) == off {
		if nerr := b.note(e.UUID, func(e *Entry) { e.Ran = false }); nerr != nil {
			return errors.Join(err, nerr)
		}
	}
	return err
}

// resize gives a machine other CPUs, memory or disk. What it is to have is reserved beside what it has, defined, and then
// written down as what it has.
func (m *machine) resize(ctx context.Context, e Entry, seen sight) error {
	b, w := m.box, seen.wish
	want := plan.Room{CPUs: w.CPUs, Memory: w.Memory, Disk: max(w.Disk, e.Disk)}
	runs := domainOf(seen.domain, b.cfg.Mesh) == running
	if runs {
		want.Disk = e.Disk
	}
	err := b.reserveFor(e.UUID, want, func(e *Entry) {
		e.CPUs, e.Memory, e.Disk = max(e.CPUs, want.CPUs), max(e.Memory, want.Memory), want.Disk
	})
	if errors.Is(err, errNoRoom) {
		m.not = want // said in the report; asked for again when HostDB changes, or on retry
		return nil
	}
	if err != nil {
		return err
	}
	m.not = plan.Room{}
	if e.Domain == nil { // not composed yet: that does the rest
		return b.note(e.UUID, func(e *Entry) { e.CPUs, e.Memory = want.CPUs, want.Memory })
	}
	d := *e.Domain
	d.CPUs, d.Memory = want.CPUs, want.Memory
	if d.Disk != "" && !runs && want.Disk > 0 {
		if _, err := b.cfg.Hypervisor.CreateVolume(ctx, diskName(e.UUID), "", "", want.Disk); err != nil {
			return err
		}
	}
	if err := b.cfg.Hypervisor.Define(ctx, d); err != nil {
		return err
	}
	return b.note(e.UUID, func(e *Entry) { e.Domain, e.CPUs, e.Memory = &d, want.CPUs, want.Memory })
}

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

func (b *Box) deleteVolumes(ctx context.Context, e Entry) error {
	for _, name := range []string{diskName(e.UUID), seedName(e.UUID)} {
		if err := b.cfg.Hypervisor.DeleteVolume(ctx, name); err != nil {
			return err
		}
	}
	if b.cfg.Consoles == "" {
		return nil
	}
	if err := os.Remove(b.console(e.UUID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete console: %w", err)
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
