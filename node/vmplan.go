package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/node/api"
	"hostmesh/vmd"
	"hostmesh/vmd/image"
	"hostmesh/vmd/plan"
)

// planImages are the base images of the catalogue, as placing needs them.
func planImages(db hostdb.View) map[string]plan.Image {
	good, _ := image.Catalogue(db)
	out := make(map[string]plan.Image, len(good))
	for name, i := range good {
		url := true
		for _, f := range i.Files() {
			url = url && f.URL != ""
		}
		out[name] = plan.Image{SHA256: i.ID(), Size: i.Size(), Disk: i.VirtualSize, URL: url}
	}
	return out
}

// vmDuties are asked who places: *lease.Lease.
type vmDuties interface {
	Duties(ctx context.Context) ([]lease.Status, error)
}

// placer is the node that places machines of this datacenter.
func (d *vmDesk) placer(ctx context.Context) (string, error) {
	records, err := d.records()
	if err != nil {
		return "", err
	}
	if l, ok := records.(vmDuties); ok {
		list, err := l.Duties(ctx)
		if err != nil {
			return "", d.leaseError(err)
		}
		for _, s := range list {
			if s.Duty == vmd.PlacerDuty && s.Node != "" {
				return s.Node, nil
			}
		}
	}
	return "", fmt.Errorf("%w: nobody places machines now: see hostmesh duties explain %s", api.ErrVMAway, vmd.PlacerDuty)
}

// input is what places follow from.
func (d *vmDesk) input() plan.Input {
	db, mv := d.db.View(), d.net.View()
	return plan.Input{DB: db, Mesh: mv, Index: plan.NewPlanner(db), Images: planImages(db)}
}

// ExplainVM implements api.VMPlanner.
func (d *vmDesk) ExplainVM(ctx context.Context, name string) (api.VMExplanation, error) {
	vm, err := d.VM(name)
	if err != nil {
		return api.VMExplanation{}, err
	}
	out := api.VMExplanation{VM: vm}
	in := d.input()
	w, ok := in.Index.Wish(name)
	if !ok {
		out.Reason = stateText(vm) + "; HostDB wants no such machine"
		return out, nil
	}
	record := d.attempts(ctx, &out)
	out.Problem = w.Problem
	// What keeps a machine from a box that refused it a while ago is the placer's to say; here is what speaks for each box now.
	decision := plan.Place(in, w)
	for _, v := range decision.Verdicts {
		x := api.VMVerdict{Box: v.Box, Node: v.Node, OK: v.OK, Score: v.Score, Reason: v.Reason}
		for _, p := range v.Parts {
			x.Parts = append(x.Parts, api.VMScorePart{Name: p.Name, Score: p.Score, Reason: p.Reason})
		}
		out.Boxes = append(out.Boxes, x)
	}
	switch node, perr := d.placer(ctx); {
	case perr == nil:
		out.Placer, out.PlacerName = node, nodeName(in.Mesh, node)
	case vm.Box == "":
		out.Reason = perr.Error()
	}
	switch {
	case vm.Box != "":
		out.Reason = fmt.Sprintf("%s is on %s, %s", name, vm.Box, vm.Phase)
		if vm.Reason != "" {
			out.Reason += ": " + vm.Reason
		}
	case out.Problem != "":
		out.Reason = out.Problem
	case w.Status != "active":
		out.Reason = fmt.Sprintf("hosts/%s has Status %s: machines are placed while it is active", name, w.Status)
	case out.Reason == "":
		out.Reason = decision.Reason
		if record.State != "" {
			out.Reason += fmt.Sprintf("; %s by %s", record.State, record.Box)
		}
	}
	return out, nil
}

// attempts adds which boxes could not have the machine, as far as the lease group answers.
func (d *vmDesk) attempts(ctx context.Context, out *api.VMExplanation) vmd.Record {
	if out.VM.UUID == "" {
		return vmd.Record{}
	}
	records, err := d.records()
	if err != nil {
		return vmd.Record{} // who places says so too
	}
	raw, err := records.Get(ctx, vmd.RecordKey(out.VM.UUID))
	if err != nil {
		if !errors.Is(err, lease.ErrNotFound) {
			d.log.Debug("record of a machine not read", "uuid", out.VM.UUID, "err", err)
		}
		return vmd.Record{}
	}
	var r vmd.Record
	if err := vmd.Decode(raw.Value, &r); err != nil {
		d.log.Warn("record of a machine not read", "uuid", out.VM.UUID, "err", err)
		return vmd.Record{}
	}
	for _, t := range r.Tried {
		out.Refused = append(out.Refused, api.VMAttempt{Box: t.Box, Node: t.Node, Reason: t.Reason, At: time.UnixMilli(t.At).UTC()})
	}
	return r
}

// VMCapacity implements api.VMPlanner.
func (d *vmDesk) VMCapacity(_ context.Context, without []string) (api.VMCapacity, error) {
	in := d.input()
	c := plan.Capacity(in)
	out := api.VMCapacity{Boxes: usages(c.Boxes), Racks: usages(c.Racks), Datacenters: usages(c.Datacenters), Total: usageOf(c.Total)}
	if len(without) == 0 {
		return out, nil
	}
	var lost []string
	for _, name := range without {
		boxes, err := boxesNamed(in, c, name)
		if err != nil {
			return api.VMCapacity{}, err
		}
		lost = append(lost, boxes...)
	}
	slices.Sort(lost)
	l := plan.WhatIf(in, slices.Compact(lost))
	loss := api.VMLoss{Boxes: l.Boxes, Homeless: l.Homeless, Reason: l.Reason}
	for _, m := range l.Machines {
		loss.Machines = append(loss.Machines, api.VMLost(m))
	}
	out.Loss = &loss
	return out, nil
}

// boxesNamed are the boxes that people mean: a host, or rack:NAME, with its datacenter where several have a rack of that name.
func boxesNamed(in plan.Input, c plan.Capacities, name string) ([]string, error) {
	rack, isRack := strings.CutPrefix(name, "rack:")
	if !isRack {
		if slices.ContainsFunc(c.Boxes, func(u plan.Usage) bool { return u.Box == name }) {
			return []string{name}, nil
		}
		return nil, fmt.Errorf("%w: no box is called %s: hostmesh vm capacity lists them; a rack is rack:NAME", hostdb.ErrNotFound, name)
	}
	dc, within, both := strings.Cut(rack, "/")
	if !both {
		dc, within = "", rack
	}
	var found []plan.Usage
	for _, u := range c.Racks {
		if u.Rack == within && (!both || u.Datacenter == dc) {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: no rack with boxes is called %s: hostmesh vm capacity lists them", hostdb.ErrNotFound, rack)
	case 1:
		return plan.BoxesOf(in, found[0].Datacenter, within), nil
	}
	return nil, fmt.Errorf("%w: %d datacenters have a rack %s: name it as rack:%s/%s", hostdb.ErrInvalid, len(found), within, found[0].Datacenter, within)
}

func usages(list []plan.Usage) (out []api.VMUsage) {
	for _, u := range list {
		out = append(out, usageOf(u))
	}
	return out
}

func usageOf(u plan.Usage) api.VMUsage {
	return api.VMUsage{
		Datacenter: u.Datacenter, Rack: u.Rack, Box: u.Box, Boxes: u.Boxes, Out: u.Out, Machines: u.Machines,
		Total: api.VMRoom(u.Total), Used: api.VMRoom(u.Used), Free: api.VMRoom(u.Free), Problem: u.Problem,
	}
}

// problems are machines that wait although nothing is being done about it: for the doctor.
func (d *vmDesk) problems() []api.Problem {
	var out []api.Problem
	in := d.input()
	seen := map[string]bool{}
	for _, dc := range datacentersOf(in.Mesh) {
		for _, w := range in.Index.Unplaced(dc) {
			if seen[w.Name] || w.Problem == "" {
				continue
			}
			seen[w.Name] = true
			out = append(out, api.Problem{Severity: api.SeverityError, Subject: "vm", Text: w.Name + " cannot be made: " + w.Problem, Remedy: "hostmesh vm explain " + w.Name})
		}
	}
	d.look(func(t *vmTable) {
		if n := len(t.list(api.VMFilter{Phase: "waiting"})); n > 0 {
			out = append(out, api.Problem{Severity: api.SeverityNotice, Subject: "vm", Text: countOf(n, "machine waits", "machines wait") + " to be destroyed, because there were many within the hour", Remedy: "see hostmesh approve"})
		}
		for _, vm := range t.list(api.VMFilter{Phase: "failed"}) {
			out = append(out, api.Problem{Severity: api.SeverityError, Subject: "vm", Text: stateText(vm), Remedy: "hostmesh vm show " + vm.Name})
		}
	})
	return out
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// datacentersOf are those of all members, and the one of no name.
func datacentersOf(mv mesh.View) []string {
	out := []string{""}
	for _, m := range mv.Members() {
		if !slices.Contains(out, m.Datacenter) {
			out = append(out, m.Datacenter)
		}
	}
	return out
}
