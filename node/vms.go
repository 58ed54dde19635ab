package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
	"hostmesh/vmd/image"
	"hostmesh/vmd/plan"
)

// vmDB is the replica that machines are entered in: *hostdb.Store.
type vmDB interface {
	vmd.History
	Watch() (changed <-chan struct{}, stop func())
	Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (hostdb.Commit, error)
}

// vmMesh is where boxes report, and are told: *mesh.Mesh.
type vmMesh interface {
	View() mesh.View
	Watch() (changed <-chan struct{}, stop func())
	Call(ctx context.Context, node, name string, req []byte) ([]byte, error)
}

// vmDesk implements api.VMs, api.VMCommands and api.VMPlanner.
type vmDesk struct {
	db  vmDB
	net vmMesh
	log *slog.Logger
	now func() time.Time
	// records are those of this datacenter; an error says why they cannot be had, and is for people. leaseError makes that of
	// an error of the lease.
	records    func() (vmRecords, error)
	leaseError func(error) error
	datacenter string
	// leads tells why a machine must not be stopped although it is not Protected; "" = it may. nil = nothing speaks against any.
	leads func(ctx context.Context, host string) string

	mu    sync.Mutex // guards table
	table vmTable

	planning sync.Mutex    // held while places are thought about: guards index
	index    *plan.Planner // nil until somebody asks; follows the views
}

func (a *Agent) vmDesk() *vmDesk {
	return &vmDesk{
		db: a.store, net: a.mesh, log: a.log, now: a.clock.Now, datacenter: a.cfg.Labels.Datacenter,
		records: func() (vmRecords, error) {
			l, err := duties{a}.open()
			if err != nil {
				return nil, err // not l: a nil *lease.Lease is no nil vmRecords
			}
			return l, nil
		},
		leaseError: duties{a}.of, leads: a.clusterGuard().leads,
	}
}

// needed refuses to have something done to a machine that others depend on, without an override. With one lifted says, for the history, what was overridden: "" = nothing.
func (d *vmDesk) needed(ctx context.Context, name, what, override string) (lifted string, err error) {
	if d.leads == nil {
		return "", nil
	}
	if _, err := vmd.Machine(d.db.View(), name); err != nil {
		return "", nil // what follows says so
	}
	why := d.leads(ctx, name)
	switch {
	case why == "":
		return "", nil
	case override == "":
		return "", fmt.Errorf("hosts/%s is %w: %s; to %s it all the same, give an override with the reason", name, hostdb.ErrProtected, why, what)
	}
	return " (although " + why + "; overridden: " + override + ")", nil
}

// catalog implements vmd.Catalog.
type catalog struct{}

func (catalog) Image(db hostdb.View, name string) (int64, error) {
	i, err := image.Get(db, name)
	if errors.Is(err, image.ErrBadImage) {
		return 0, fmt.Errorf("%w: %w", hostdb.ErrInvalid, err)
	}
	return i.VirtualSize, err
}

// look calls f with the table as of now.
func (d *vmDesk) look(f func(t *vmTable)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table.follow(d.db.View(), d.net.View())
	f(&d.table)
}

// VMs implements api.VMs.
func (d *vmDesk) VMs(f api.VMFilter) (out api.VMList, err error) {
	d.look(func(t *vmTable) {
		if f.Tag != "" && f.Tag != hostdb.AllTag && !t.db.Exists(hostdb.Tags, f.Tag) {
			err = fmt.Errorf("tags/%s: %w", f.Tag, hostdb.ErrNotFound)
			return
		}
		out = api.VMList{Version: t.db.Version().String(), VMs: t.list(f)}
	})
	return out, err
}

// VM implements api.VMs.
func (d *vmDesk) VM(name string) (api.VM, error) {
	var list []api.VM
	d.look(func(t *vmTable) { list = t.find(name) })
	if len(list) > 0 {
		return list[0], nil
	}
	_, err := vmd.Machine(d.db.View(), name)
	return api.VM{}, cmp.Or(err, fmt.Errorf("machine %s: %w", name, api.ErrNotFound))
}

// written makes an operation of a person's wish. The log line is what an operator looks for.
func (d *vmDesk) written(ctx context.Context, req hostdb.Request, what, name string, fn func(*hostdb.Tx) (uuid string, err error)) (api.VMWritten, error) {
	out := api.VMWritten{Name: name}
	c, err := d.db.Update(ctx, req, func(tx *hostdb.Tx) (err error) {
		out.UUID, err = fn(tx)
		return err
	})
	if err != nil {
		return api.VMWritten{}, err
	}
	out.Changed, out.Acks, out.Warnings = c.Changed(), c.Acks, c.Warnings
	if c.Changed() {
		out.Revision = c.Revision.String()
		d.log.Info(what, "vm", name, "uuid", out.UUID, "user", req.User, "revision", out.Revision, "log", req.Log)
	}
	return out, nil
}

// CreateVM implements api.VMs.
func (d *vmDesk) CreateVM(ctx context.Context, who api.Identity, w api.VMWish) (api.VMWritten, error) {
	wish := vmd.NewMachine{
		Name: w.Name, Image: w.Image, Subnet: w.Subnet, CPUs: w.CPUs, Memory: w.Memory, Disk: w.Disk, Tags: w.Tags, IP: w.IP,
		Protected: w.Protected, Owner: w.Owner, Expires: w.Expires, Off: w.Off,
	}
	out, err := d.written(ctx, request(who, w.Log), "machine entered", w.Name, func(tx *hostdb.Tx) (string, error) {
		e, err := vmd.Create(tx, catalog{}, wish)
		return e.UUID, err
	})
	if err != nil {
		return out, err
	}
	// The name belongs to a deleted machine until that is shut down and kept.
	d.look(func(t *vmTable) {
		for _, vm := range t.find(w.Name) {
			if vm.UUID != out.UUID && vm.Phase == string(report.Deleted) && vm.Until != nil {
				out.Warnings = append(out.Warnings, fmt.Sprintf("a deleted machine of this name is kept until %s: hostmesh vm purge %s --uuid %s removes its disks before that",
					vm.Until.Format("2006-01-02 15:04 MST"), w.Name, vm.UUID))
			}
		}
	})
	return out, nil
}

// SetVMPower implements api.VMs.
func (d *vmDesk) SetVMPower(ctx context.Context, who api.Identity, name string, p api.VMPower) (api.VMWritten, error) {
	req := request(who, p.Log)
	req.Override = p.Override
	if host, err := vmd.Machine(d.db.View(), name); err == nil && host.Protected && !p.On && p.Override != "" {
		req.Log += " (protection lifted: " + p.Override + ")"
	}
	if !p.On {
		lifted, err := d.needed(ctx, name, "stop", p.Override)
		if err != nil {
			return api.VMWritten{}, err
		}
		req.Log += lifted
	}
	return d.written(ctx, req, map[bool]string{true: "machine to be started", false: "machine to be stopped"}[p.On], name, func(tx *hostdb.Tx) (string, error) {
		if _, err := vmd.SetPower(tx, name, p.On, p.Override); err != nil {
			return "", err
		}
		return strings.ToLower(tx.View().Data(hostdb.Hosts, name).Text("VM", "UUID")), nil
	})
}

// DestroyVM implements api.VMs.
func (d *vmDesk) DestroyVM(ctx context.Context, who api.Identity, name string, o api.VMOrder) (api.VMWritten, error) {
	req := request(who, o.Log)
	req.Override = o.Override
	lifted, err := d.needed(ctx, name, "destroy", o.Override)
	if err != nil {
		return api.VMWritten{}, err
	}
	req.Log += lifted
	out, err := d.written(ctx, req, "machine to be destroyed", name, func(tx *hostdb.Tx) (string, error) {
		uuid := tx.View().Data(hostdb.Hosts, name).Text("VM", "UUID")
		return strings.ToLower(uuid), vmd.Destroy(tx, name)
	})
	if err != nil || lifted == "" || out.UUID == "" {
		return out, err
	}
	// Its box would wait for a person, and this one has said it.
	records, err := d.records()
	if err == nil {
		if err = vmd.Approve(ctx, records, []string{out.UUID}, who.User, d.now()); err != nil {
			err = d.leaseError(err)
		}
	}
	if err != nil {
		out.Warnings = append(out.Warnings, fmt.Sprintf("that it may go could not be written down (%v): it waits until hostmesh approve %s", err, name))
	}
	return out, nil
}

// UndeleteVM implements api.VMs. Who may is decided by the access list that the host had: it comes back with it.
func (d *vmDesk) UndeleteVM(ctx context.Context, who api.Identity, name string, o api.VMOrder) (api.VMWritten, error) {
	del, err := vmd.FindDeletion(ctx, d.db, name)
	if err != nil {
		return api.VMWritten{}, err
	}
	req := request(who, o.Log)
	allow := who.Allow
	req.AllowData = nil
	req.Allow = func(v hostdb.View, ns, key string, what hostdb.Resource) error {
		if ns == hostdb.Hosts && key == name {
			return allow(del.Before, ns, key, hostdb.Data)
		}
		return allow(v, ns, key, what)
	}
	var warnings []string
	if host, _ := section.HostOf(del.Before.Data(hostdb.Hosts, name)); host.VM != nil && host.VM.Box != "" {
		kept, known := d.keeps(strings.ToLower(del.UUID), host.VM.Box)
		switch {
		case known && !kept:
			return api.VMWritten{}, fmt.Errorf("%w: %s never made %s, or has removed it since; the entry alone comes back with hostmesh db undo %s, and another machine is made with hostmesh vm create",
				api.ErrVMGone, host.VM.Box, name, del.Revision.ID)
		case !known:
			warnings = append(warnings, fmt.Sprintf("%s does not answer: whether it still has the disks shows when it is back", host.VM.Box))
		}
	}
	var left []string
	out, err := d.written(ctx, req, "machine to come back", name, func(tx *hostdb.Tx) (_ string, err error) {
		left, err = vmd.Undelete(tx, del)
		return strings.ToLower(del.UUID), err
	})
	if err != nil {
		return api.VMWritten{}, err
	}
	for _, id := range left {
		warnings = append(warnings, fmt.Sprintf("%s does not exist any more: %s was its member", id, name))
	}
	out.Warnings = append(out.Warnings, warnings...)
	return out, nil
}

// keeps reports whether a box has something of a machine; known is false when it cannot be asked.
func (d *vmDesk) keeps(uuid, box string) (kept, known bool) {
	mv := d.net.View()
	for r := range mv.Reports() {
		if _, ok := r.VMs[uuid]; ok {
			return true, true
		}
	}
	m, ok := mv.ByName(box)
	if !ok || m.State != mesh.StateAlive {
		return false, false
	}
	r, ok := mv.Report(m.ID)
	return false, ok && r.Box != nil
}

// WatchVMs implements api.VMs.
func (d *vmDesk) WatchVMs(ctx context.Context, names []string, tell func(api.VMEvent) error) error {
	entries, stop := d.db.Watch()
	defer stop()
	reports, stopReports := d.net.Watch()
	defer stopReports()
	asked := func(vm api.VM) bool { return len(names) == 0 || slices.Contains(names, vm.Name) }
	var t vmTable
	synced := false
	for {
		changed, gone := t.follow(d.db.View(), d.net.View())
		now := d.now().UTC()
		for _, vm := range gone {
			if asked(vm) {
				if err := tell(api.VMEvent{Kind: api.EventVM, At: now, Gone: vm.Name, UUID: vm.UUID}); err != nil {
					return err
				}
			}
		}
		for _, vm := range changed {
			if asked(vm) {
				vm = t.tagged(vm)
				if err := tell(api.VMEvent{Kind: api.EventVM, At: now, VM: &vm}); err != nil {
					return err
				}
			}
		}
		if !synced {
			synced = true
			if err := tell(api.VMEvent{Kind: api.EventSynced, At: now}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-entries:
		case <-reports:
		}
	}
}
