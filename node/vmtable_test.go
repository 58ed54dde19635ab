package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
)

// vmSite is a replica and a mesh of which boxes are made to report.
type vmSite struct {
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
	clock pastClock
	store *hostdb.Store
	mv    mesh.View
	n     uint64
	calls []string
	err   error // of calls
}

func (s *vmSite) View() mesh.View { return s.mv }

func (s *vmSite) Watch() (<-chan struct{}, func()) { return make(chan struct{}), func() {} }

func (s *vmSite) Call(_ context.Context, node, name string, _ []byte) ([]byte, error) {
	s.calls = append(s.calls, name+" "+node)
	return vmd.Encode(vmd.Done{Text: "soon"}), s.err
}

func box(name string) string { return strings.Repeat(name[len(name)-1:], 32) }

func newVMSite(t interface {
	Helper()
	Fatalf(string, ...any)
}) *vmSite {
	t.Helper()
	s := &vmSite{t: t, clock: pastClock{time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)}}
	memory := hostdbtest.NewMemory()
	var err error
	s.store, err = hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return memory, nil }, NodeID: "n", Validator: section.Validator{}, Clock: &s.clock})
	if err != nil {
		t.Fatalf("%v", err)
	}
	s.members(mesh.StateAlive, mesh.StateAlive)
	return s
}

// members are box1 and box2 in these states; what they reported stays.
func (s *vmSite) members(one, two mesh.State) {
	old := s.mv
	s.mv = mesh.NewView(box("box1"), []mesh.Member{
		{ID: box("box1"), Name: "box1", State: one, Datacenter: "dc1", Since: s.clock.now}, {ID: box("box2"), Name: "box2", State: two, Datacenter: "dc2", Since: s.clock.now},
	})
	for r := range old.Reports() {
		s.mv = s.mv.WithReport(r)
	}
}

func (s *vmSite) report(name string, vms map[string]report.VM) {
	s.n++
	s.mv = s.mv.WithReport(report.Report{Node: box(name), Boot: 1, N: s.n, Box: &report.Box{}, VMs: vms})
}

func (s *vmSite) put(name, yaml string) {
	s.t.Helper()
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err == nil {
		_, err = s.store.Update(context.Background(), hostdb.Request{User: "alice", Log: "x"}, func(tx *hostdb.Tx) error { return tx.Put(hostdb.Hosts, name, doc) })
	}
	if err != nil {
		s.t.Fatalf("%v", err)
	}
}

func (s *vmSite) desk() *vmDesk {
	return &vmDesk{
		db: s.store, net: s, log: slog.New(slog.DiscardHandler), now: s.clock.Now, datacenter: "dc1",
		records: func() (vmRecords, error) { return nil, api.ErrNoDuties }, leaseError: func(err error) error { return err },
	}
}

const (
	uuid1 = "0acfbcca-161e-427c-8423-ef788bb47f00"
	uuid2 = "1acfbcca-161e-427c-8423-ef788bb47f00"
)

func running(name string) report.VM {
	return report.VM{Name: name, Phase: report.Running, Since: 1000, IP: "10.1.128.7"}
}

// TestVMPhases: how a machine stands follows from what HostDB wants and what its box says, in each pair of both.
func TestVMPhases(t *testing.T) {
	s := newVMSite(t)
	d := s.desk()
	stands := func(when, phase, reason string) api.VM {
		t.Helper()
		vm, err := d.VM("web7")
		if err != nil || vm.Phase != phase || !strings.Contains(vm.Reason, reason) {
			t.Errorf("%s: %s %q %v, want %s %q", when, vm.Phase, vm.Reason, err, phase, reason)
		}
		return vm
	}
	if _, err := d.VM("web7"); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("not there: %v", err)
	}
	s.put("web7", "{VM: {Image: debian-12, Memory: 2GiB}}")
	if vm := stands("by hand, without UUID", api.VMPending, "waits for a box"); vm.UUID != "" || vm.Memory != 2<<30 || vm.Power != "on" || !vm.Wanted {
		t.Errorf("%+v", vm)
	}
	s.put("web7", "{VM: {Image: debian-12, UUID: "+strings.ToUpper(uuid1)+"}}")
	stands("with UUID", api.VMPending, "waits for a box")
	s.report("box2", map[string]report.VM{uuid1: {Name: "web7", Phase: report.Failed, Step: stepPlace, Reason: "no box has room"}})
	if vm := stands("placed by nobody", "failed", "no box has room"); vm.Box != "" || vm.Node != box("box2") {
		t.Errorf("%+v", vm)
	}
	s.report("box1", map[string]report.VM{uuid1: running("web7")})
	if vm := stands("a box's word", "running", ""); vm.Box != "box1" || vm.IP != "10.1.128.7" || vm.UUID != uuid1 {
		t.Errorf("%+v", vm)
	}
	s.members(mesh.StateFailed, mesh.StateAlive)
	s.report("box2", nil)
	stands("the box is away", api.VMUnreachable, "box1 does not answer; the machine was running")
	s.members(mesh.StateAlive, mesh.StateAlive)
	s.report("box1", map[string]report.VM{uuid1: {Name: "web7", Phase: report.Deleted, Until: 5000}})
	if _, err := d.DestroyVM(t.Context(), api.Identity{User: "a", Admin: true}, "web7", api.VMOrder{Log: "x"}); err != nil {
		t.Fatal(err)
	}
	if vm := stands("deleted", "deleted", ""); vm.Wanted || vm.Until == nil || vm.UUID != uuid1 {
		t.Errorf("%+v", vm)
	}
	s.put("web7", "{VM: {Image: debian-12, UUID: "+uuid2+", Box: box1}}")
	if vm := stands("another of that name", api.VMPending, "box1 does not report it yet"); vm.UUID != uuid2 {
		t.Errorf("%+v", vm)
	}
	if list, err := d.VMs(api.VMFilter{}); err != nil || len(list.VMs) != 2 || list.VMs[1].Phase != "deleted" {
		t.Errorf("%+v %v", list, err)
	}
	s.put("web7", "{VM: {Image: debian-12, UUID: "+uuid2+", Box: box9}}")
	stands("a box that is none", api.VMUnreachable, "box9 is no member")
	if list, err := d.VMs(api.VMFilter{Phase: "deleted", Box: "box1"}); err != nil || len(list.VMs) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := d.VMs(api.VMFilter{Tag: "none"}); !errors.Is(err, hostdb.ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
}

// TestVMTableFollows: following step by step comes to the same as looking at once, and what it told adds up to it.
func TestVMTableFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newVMSite(t)
		names, uuids := []string{"m1", "m2"}, []string{uuid1, uuid2}
		var table vmTable
		told := map[string]string{}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0:
				uuid := rapid.SampledFrom(append(uuids, "")).Draw(t, "uuid")
				s.put(name, fmt.Sprintf("{VM: {Image: i, UUID: %q, Box: %q}}", uuid, rapid.SampledFrom([]string{"", "box1", "box2", "box9"}).Draw(t, "box")))
			case 1:
				s.put(name, "{}")
			case 2:
				if s.store.View().Exists(hostdb.Hosts, name) {
					if _, err := s.store.Update(context.Background(), hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, name) }); err != nil {
						t.Fatalf("%v", err)
					}
				}
			case 3:
				vms := map[string]report.VM{}
				for _, uuid := range uuids {
					if rapid.Bool().Draw(t, "has") {
						vms[uuid] = report.VM{Name: rapid.SampledFrom(names).Draw(t, "called"), Phase: rapid.SampledFrom([]report.Phase{report.Running, report.Deleted}).Draw(t, "phase"),
							Since: int64(rapid.IntRange(1, 3).Draw(t, "since")), Step: rapid.SampledFrom([]string{"", stepPlace}).Draw(t, "step")}
					}
				}
				s.report(rapid.SampledFrom([]string{"box1", "box2"}).Draw(t, "by"), vms)
			default:
				states := []mesh.State{mesh.StateAlive, mesh.StateFailed}
				s.members(rapid.SampledFrom(states).Draw(t, "one"), rapid.SampledFrom(states).Draw(t, "two"))
			}
			if rapid.Bool().Draw(t, "later") {
				continue // several changes come at once
			}
			changed, gone := table.follow(s.store.View(), s.mv)
			for _, vm := range gone {
				delete(told, vmID(vm.UUID, vm.Name))
			}
			for _, vm := range changed {
				told[vmID(vm.UUID, vm.Name)] = vm.Phase + vm.Box + vm.Reason
			}
		}
		changed, gone := table.follow(s.store.View(), s.mv)
		for _, vm := range gone {
			delete(told, vmID(vm.UUID, vm.Name))
		}
		for _, vm := range changed {
			told[vmID(vm.UUID, vm.Name)] = vm.Phase + vm.Box + vm.Reason
		}
		var fresh vmTable
		fresh.follow(s.store.View(), s.mv)
		want := map[string]string{}
		for id, vm := range fresh.rows {
			want[id] = vm.Phase + vm.Box + vm.Reason
		}
		for id := range told { // an entry that got its identity goes on under that
			if _, still := table.rows[id]; !still && strings.HasPrefix(id, "|") {
				delete(told, id)
			}
		}
		if !maps.Equal(told, want) {
			t.Fatalf("told %v\nwant %v", told, want)
		}
	})
}

// TestVMCommands: who may, and in which state.
func TestVMCommands(t *testing.T) {
	s := newVMSite(t)
	d := s.desk()
	ctx := t.Context()
	root, eve, bob := api.Identity{User: "root", Admin: true}, api.Identity{User: "eve"}, api.Identity{User: "bob"}
	s.put("web7", "{Protected: true, VM: {Image: i, UUID: "+uuid1+", Box: box1}}")
	acl, err := hostdb.ParseACL([]byte("{bob: {data: RW}}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Update(ctx, hostdb.Request{User: "a", Log: "x"}, func(tx *hostdb.Tx) error { return tx.SetPerms(hostdb.Hosts, "web7", acl) }); err != nil {
		t.Fatal(err)
	}
	s.report("box1", map[string]report.VM{uuid1: running("web7")})
	if _, err := d.RebootVM(ctx, eve, "web7", api.VMReboot{Override: "x"}); !errors.Is(err, hostdb.ErrDenied) {
		t.Errorf("eve: %v", err)
	}
	if _, err := d.RebootVM(ctx, bob, "web7", api.VMReboot{}); !errors.Is(err, hostdb.ErrProtected) {
		t.Errorf("without a reason: %v", err)
	}
	if done, err := d.RebootVM(ctx, bob, "web7", api.VMReboot{Override: "x"}); err != nil || done.Box != "box1" {
		t.Errorf("with one: %+v %v", done, err)
	}
	if _, err := d.PurgeVM(ctx, root, "web7", api.VMPurge{}); !errors.Is(err, api.ErrVMState) || !strings.Contains(err.Error(), "hostmesh vm destroy web7 first") {
		t.Errorf("purge of what is there: %v", err)
	}
	s.err = &mesh.RemoteError{Code: vmd.CodeState, Text: "web7 has no console yet"}
	if _, err := d.VMConsole(ctx, bob, "web7", 0, 0); !errors.Is(err, api.ErrVMState) || err.Error() != "box1: web7 has no console yet" {
		t.Errorf("console: %v", err)
	}
	s.err = fmt.Errorf("dial: %w", mesh.ErrUnreachable)
	if _, err := d.RetryVM(ctx, bob, "web7"); !errors.Is(err, api.ErrVMAway) {
		t.Errorf("away: %v", err)
	}
	s.err = nil
	if _, err := d.DestroyVM(ctx, bob, "web7", api.VMOrder{Log: "x"}); !errors.Is(err, hostdb.ErrProtected) {
		t.Errorf("destroy: %v", err)
	}
	if _, err := d.DestroyVM(ctx, bob, "web7", api.VMOrder{Log: "x", Override: "sold"}); err != nil {
		t.Errorf("destroy: %v", err)
	}
	// Its access list went with it, and counts all the same.
	for _, c := range []struct {
		who  api.Identity
		want error
	}{{eve, hostdb.ErrDenied}, {bob, nil}} { // in this order: the second brings it back
		if _, err := d.PurgeVM(ctx, c.who, "web7", api.VMPurge{}); !errors.Is(err, c.want) {
			t.Errorf("purge by %s: %v", c.who.User, err)
		}
		if _, err := d.UndeleteVM(ctx, c.who, "web7", api.VMOrder{Log: "x"}); !errors.Is(err, c.want) {
			t.Errorf("undelete by %s: %v", c.who.User, err)
		}
	}
	if got, _ := s.store.View().Perms(hostdb.Hosts, "web7"); got.YAML() != acl.YAML() {
		t.Errorf("the access list is %q", got.YAML())
	}
	if want := []string{"vm.reboot.1", "vm.console.1", "vm.retry.1", "vm.purge.1"}; !slices.EqualFunc(s.calls, want, func(c, w string) bool { return c == w+" "+box("box1") }) {
		t.Errorf("calls %q", s.calls)
	}

	// What no box has any more does not come back as if it were there.
	if _, err := d.DestroyVM(ctx, root, "web7", api.VMOrder{Log: "x", Override: "sold"}); err != nil {
		t.Fatal(err)
	}
	s.members(mesh.StateFailed, mesh.StateAlive)
	s.report("box1", nil)
	if w, err := d.UndeleteVM(ctx, root, "web7", api.VMOrder{Log: "x"}); err != nil || len(w.Warnings) == 0 {
		t.Errorf("its box is away: %+v %v", w, err)
	}
	if _, err := d.DestroyVM(ctx, root, "web7", api.VMOrder{Log: "x", Override: "sold"}); err != nil {
		t.Fatal(err)
	}
	s.members(mesh.StateAlive, mesh.StateAlive)
	if _, err := d.UndeleteVM(ctx, root, "web7", api.VMOrder{Log: "x"}); !errors.Is(err, api.ErrVMGone) ||
		!strings.HasPrefix(err.Error(), "the machine has no disks: box1 never made web7, or has removed it since; ") {
		t.Errorf("its disks are gone: %v", err)
	}

	s.report("box2", map[string]report.VM{uuid2: {Name: "web8", Phase: report.Waiting}})
	if _, err := d.ApproveVMs(ctx, root, []string{"web8"}, false); !errors.Is(err, api.ErrVMState) || !strings.Contains(err.Error(), "datacenter dc2") {
		t.Errorf("of another datacenter: %v", err)
	}
	if _, err := d.ApproveVMs(ctx, root, []string{"web9"}, false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("what does not wait: %v", err)
	}
	s.report("box1", map[string]report.VM{uuid2: {Name: "web8", Phase: report.Waiting}})
	s.report("box2", nil)
	if _, err := d.ApproveVMs(ctx, eve, nil, true); !errors.Is(err, hostdb.ErrDenied) {
		t.Errorf("approved by eve: %v", err)
	}
	if _, err := d.ApproveVMs(ctx, root, nil, true); !errors.Is(err, api.ErrNoDuties) {
		t.Errorf("without a group: %v", err)
	}
}
