package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// otherVMs is what is not asked for.
type otherVMs interface {
	api.VMs
	api.VMCommands
	api.VMPlanner
}

// fakeVMs makes each machine that is entered go through the same steps.
type fakeVMs struct {
	otherVMs
	steps []api.VM // what follows when a machine is watched
	mu    sync.Mutex
	did   []string
}

func (f *fakeVMs) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, fmt.Sprintf(format, args...))
}

func (f *fakeVMs) CreateVM(_ context.Context, _ api.Identity, w api.VMWish) (api.VMWritten, error) {
	if w.Name == "web3" {
		return api.VMWritten{}, fmt.Errorf("hosts/web3 is no virtual machine: %w", hostdb.ErrExists)
	}
	f.note("create %s %s %s: %s", w.Name, w.Image, strings.Join(w.Tags, " "), w.Log)
	return api.VMWritten{Name: w.Name, UUID: "u-" + w.Name, Changed: w.Name != "old"}, nil
}

func (f *fakeVMs) DestroyVM(_ context.Context, _ api.Identity, name string, o api.VMOrder) (api.VMWritten, error) {
	if name == "db1" && o.Override == "" {
		return api.VMWritten{}, fmt.Errorf("hosts/db1 is %w", hostdb.ErrProtected)
	}
	f.note("destroy %s: %s", name, o.Log)
	return api.VMWritten{Name: name, UUID: "u-" + name, Changed: true}, nil
}

func (f *fakeVMs) UndeleteVM(_ context.Context, _ api.Identity, name string, o api.VMOrder) (api.VMWritten, error) {
	f.note("undelete %s: %s", name, o.Log)
	return api.VMWritten{Name: name, UUID: "u-" + name, Changed: true}, nil
}

func (f *fakeVMs) VM(name string) (api.VM, error) {
	if name == "none" {
		return api.VM{}, fmt.Errorf("there is no machine none: %w", api.ErrNotFound)
	}
	return api.VM{Name: name, Phase: "running"}, nil
}

func (f *fakeVMs) VMs(api.VMFilter) (api.VMList, error) {
	return api.VMList{VMs: []api.VM{{Name: "web7"}}}, nil
}

func (f *fakeVMs) PurgeVM(_ context.Context, _ api.Identity, name string, _ api.VMPurge) (api.VMDone, error) {
	f.note("purge %s", name)
	return api.VMDone{Name: name, Text: "the disks go now"}, nil
}

func (f *fakeVMs) VMConsole(_ context.Context, _ api.Identity, _ string, from int64, _ time.Duration) (api.VMConsole, error) {
	if from < 0 {
		return api.VMConsole{Data: []byte("boot \x1b[2Jgr\xc3"), Next: 10}, nil
	}
	if from == 10 {
		return api.VMConsole{Data: []byte("\xbcn\r\n"), Next: 14}, nil
	}
	return api.VMConsole{Next: from}, nil
}

func (f *fakeVMs) VMDestroys(context.Context) (api.VMDestroys, error) {
	since := time.Now().Add(-90 * time.Second)
	return api.VMDestroys{Limit: 5, Waiting: []api.VM{{Name: "web7", Box: "box3", Phase: "waiting", Since: &since, Reason: "more than 5 destroys within an hour"}}}, nil
}

func (f *fakeVMs) ApproveVMs(_ context.Context, _ api.Identity, names []string, all bool) (api.VMApproved, error) {
	f.note("approve %q %v", names, all)
	return api.VMApproved{VMs: []api.VM{{Name: "web7"}}}, nil
}

func (f *fakeVMs) WatchVMs(ctx context.Context, names []string, tell func(api.VMEvent) error) error {
	if err := tell(api.VMEvent{Kind: api.EventVM, VM: &api.VM{Name: "other", Phase: "failed"}}); err != nil {
		return err
	}
	for i, step := range f.steps {
		for _, name := range names {
			vm := step
			vm.Name, vm.UUID = name, "u-"+name
			e := api.VMEvent{Kind: api.EventVM, VM: &vm}
			if vm.Phase == "" {
				e = api.VMEvent{Kind: api.EventVM, Gone: name, UUID: vm.UUID}
			}
			if err := tell(e); err != nil {
				return err
			}
		}
		if i == 0 { // what comes first is how all stand
			if err := tell(api.VMEvent{Kind: api.EventSynced}); err != nil {
				return err
			}
		}
	}
	if len(f.steps) == 0 {
		if err := tell(api.VMEvent{Kind: api.EventSynced}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeVMs) serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(shortTempDir(t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := api.NewHandler(api.Config{VMs: f, VMCommands: f, VMPlanner: f, Watchers: api.NewWatchers(api.WatchConfig{}), Identify: func(*http.Request) (api.Identity, bool, error) {
		return api.Identity{User: "root", Admin: true}, true, nil
	}})
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	srv.Start()
	t.Cleanup(srv.Close)
	return socket
}

// inOrder reports whether text has all of these, one after the other.
func inOrder(text string, want ...string) error {
	for _, w := range want {
		_, rest, ok := strings.Cut(text, w)
		if !ok {
			return errors.New(w + " is missing or in the wrong place")
		}
		text = rest
	}
	return nil
}

// TestVMCreate: each step is told, and the exit code says what became of it.
func TestVMCreate(t *testing.T) {
	wanted := func(phase, step, reason string) api.VM {
		return api.VM{Phase: phase, Step: step, Reason: reason, Wanted: true, Box: "box3", IP: "10.1.128.7"}
	}
	f := &fakeVMs{steps: []api.VM{
		{Phase: api.VMPending, Wanted: true}, wanted("reserved", "", ""), wanted("preparing", "image", "40 %"), wanted("starting", "", ""), wanted("running", "", ""),
	}}
	socket := f.serve(t)
	base := []string{"--socket", socket, "vm", "create"}
	what := []string{"--image", "debian-12", "--subnet", "prod"}
	code, out, errs := hostmesh(t, slices.Concat(base, []string{"web7", "--tag", "web", "--tag", "shop", "--wait"}, what)...)
	if err := inOrder(errs, "web7: waits for a box\n", "web7: placed on box3\n", "web7: image: 40 %\n", "web7: started on box3\n", "web7: running at 10.1.128.7 on box3 after "); code != exitDone || err != nil || out != "web7: entered\n" {
		t.Errorf("%d %v\n%s%s", code, err, out, errs)
	}
	if f.did[0] != "create web7 debian-12 web shop: hostmesh vm create web7" {
		t.Errorf("%q", f.did)
	}
	if code, out, _ := hostmesh(t, slices.Concat(base, []string{"old"}, what)...); code != exitDone || out != "old: unchanged\n" {
		t.Errorf("the same again: %d %q", code, out)
	}
	f.did = nil
	code, out, errs = hostmesh(t, slices.Concat(base, []string{"web%d", "-n", "4", "-m", "load"}, what)...)
	if code != exitFailed || strings.Count(out, ": entered\n") != 3 || !strings.Contains(errs, "web3: hosts/web3 is no virtual machine") || !strings.Contains(errs, "1 of 4 machines were not entered") || len(f.did) != 3 {
		t.Errorf("%d\n%s%s%q", code, out, errs, f.did)
	}
	for name, args := range map[string][]string{
		"one %d": {"web", "-n", "3"}, "-n says": {"web%d"}, "from 1 to": {"web%d", "-n", "0"}, "leave --ip out": {"web%d", "-n", "2", "--ip", "10.1.0.9"},
	} {
		if code, _, errs := hostmesh(t, slices.Concat(base, args, what)...); code != exitUsage || !strings.Contains(errs, name) {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}

	f.steps = []api.VM{wanted("preparing", "disk", ""), wanted("failed", "disk", "no space on box3")}
	if code, _, errs := hostmesh(t, slices.Concat(base, []string{"web7", "--wait"}, what)...); code != exitFailed || !strings.Contains(errs, "hostmesh: web7 failed (disk): no space on box3\n") {
		t.Errorf("it failed: %d %s", code, errs)
	}
	f.steps = []api.VM{{Phase: api.VMPending, Wanted: true, Step: "place", Reason: "no box has room"}}
	code, _, errs = hostmesh(t, slices.Concat(base, []string{"web7", "--wait", "--timeout", "1s"}, what)...)
	if code != exitFailed || !strings.Contains(errs, "web7 is not running yet: pending (place): no box has room") || !strings.Contains(errs, "it took longer than 1s (--timeout)") {
		t.Errorf("it takes long: %d %s", code, errs)
	}
}

func TestVMDestroy(t *testing.T) {
	until := time.Now().Add(7 * 24 * time.Hour)
	f := &fakeVMs{steps: []api.VM{{Phase: "running", Wanted: true}, {Phase: "stopping"}, {Phase: "deleted", Until: &until}}}
	socket := f.serve(t)
	code, out, errs := hostmesh(t, "--socket", socket, "vm", "destroy", "web7", "web8", "--wait", "-m", "sold")
	if err := inOrder(errs, "web7: shutting down", "web7: deleted after ", "its disks are kept until "); code != exitDone || err != nil || out != "web7: to be destroyed\nweb8: to be destroyed\n" {
		t.Errorf("%d %v\n%s%s", code, err, out, errs)
	}
	if want := []string{"destroy web7: sold", "destroy web8: sold"}; !slices.Equal(f.did, want) {
		t.Errorf("%q", f.did)
	}
	if code, _, errs := hostmesh(t, "--socket", socket, "vm", "destroy", "db1"); code != exitFailed || !strings.Contains(errs, "--override REASON") {
		t.Errorf("a protected one: %d %s", code, errs)
	}
	f.steps = []api.VM{{Phase: "running", Wanted: true}, {Phase: "waiting", Reason: "hostmesh approve web7"}}
	if code, _, errs := hostmesh(t, "--socket", socket, "vm", "destroy", "web7", "--wait"); code != exitFailed || !strings.Contains(errs, "hostmesh: web7 waits: hostmesh approve web7") {
		t.Errorf("one that waits: %d %s", code, errs)
	}
	f.steps = []api.VM{{Phase: "deleted", Until: &until}, {}}
	if code, _, errs := hostmesh(t, "--socket", socket, "vm", "wait", "web7", "--for", "gone"); code != exitDone {
		t.Errorf("gone: %d %s", code, errs)
	}
}

// TestVMWaitForOneThatIsOff: a machine that is meant to be off is ready when it is stopped; who waits for it to run is told.
func TestVMWaitForOneThatIsOff(t *testing.T) {
	off := func(phase, step string) api.VM {
		return api.VM{Phase: phase, Step: step, Wanted: true, Box: "box3", Power: "off"}
	}
	f := &fakeVMs{steps: []api.VM{off("deleted", ""), off("preparing", "define"), off("stopped", "")}}
	socket := f.serve(t)
	run := func(args ...string) (int, string) {
		code, _, errs := hostmesh(t, append([]string{"--socket", socket, "vm"}, args...)...)
		return code, errs
	}
	if code, errs := run("undelete", "web7", "--wait"); code != exitDone || !strings.Contains(errs, "web7: stopped after ") {
		t.Errorf("undelete: %d %s", code, errs)
	}
	if code, errs := run("wait", "web7"); code != exitDone {
		t.Errorf("wait: %d %s", code, errs)
	}
	if code, errs := run("wait", "web7", "--for", "running"); code != exitFailed || !strings.Contains(errs, "web7 is stopped, as it is meant to be (VM/Power): hostmesh vm start web7") {
		t.Errorf("wait for running: %d %s", code, errs)
	}
	f.steps = []api.VM{off("running", ""), off("stopping", ""), off("stopped", "")}
	if code, errs := run("wait", "web7"); code != exitDone || !strings.Contains(errs, "shutting down") {
		t.Errorf("one that runs and is meant to be off is not ready: %d %s", code, errs)
	}
	on := off("stopped", "")
	on.Power = "on"
	f.steps = []api.VM{on}
	if code, errs := run("wait", "web7", "--timeout", "1s"); code != exitFailed || !strings.Contains(errs, "web7 is not ready yet: stopped") {
		t.Errorf("one that is meant to run: %d %s", code, errs)
	}
}

func TestVMCommands(t *testing.T) {
	f := &fakeVMs{}
	socket := f.serve(t)
	if code, out, _ := hostmesh(t, "--socket", socket, "vm", "console", "web7"); code != exitDone || out != "boot [2Jgrün\n" {
		t.Errorf("console: %d %q", code, out)
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "vm", "console", "web7", "--raw"); code != exitDone || out != "boot \x1b[2Jgrün\r\n" {
		t.Errorf("console: %d %q", code, out)
	}
	if code, _, errs := hostmesh(t, "--socket", socket, "vm", "purge", "web7"); code != exitUsage || !strings.Contains(errs, "--yes") || len(f.did) > 0 {
		t.Errorf("purge without a terminal: %d %s %q", code, errs, f.did)
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "vm", "purge", "web7", "--yes"); code != exitDone || out != "web7: the disks go now\n" {
		t.Errorf("purge: %d %q", code, out)
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "approve"); code != exitDone || !strings.Contains(out, "web7  box3  1m3") {
		t.Errorf("approve without names: %d %q", code, out)
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "approve", "web7"); code != exitDone || out != "web7: may be destroyed\n" {
		t.Errorf("approve: %d %q", code, out)
	}
	if code, _, errs := hostmesh(t, "--socket", socket, "approve", "web7", "--all"); code != exitUsage || !strings.Contains(errs, "--all") {
		t.Errorf("names and all: %d %s", code, errs)
	}
	if code, _, errs := hostmesh(t, "--socket", socket, "vm", "wait", "none"); code != exitFailed || !strings.Contains(errs, "there is no machine none") {
		t.Errorf("wait for nothing: %d %s", code, errs)
	}
	for _, args := range [][]string{{"wait", "web7", "--for", "ever"}, {"list", "--phase", "odd"}, {"events", "-o", "yaml"}, {"start"}} {
		if code, _, errs := hostmesh(t, append([]string{"--socket", socket, "vm"}, args...)...); code != exitUsage {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
	if code, out, _ := hostmesh(t, "--socket", socket, "vm", "events"); code != exitDone || !strings.Contains(out, " other failed\n") {
		t.Errorf("events: %d %q", code, out)
	}
	if code, out, _ := hostmesh(t, "__complete", "--socket", socket, "vm", "show", ""); code != exitDone || !strings.Contains(out, "web7\n") {
		t.Errorf("completion: %d %q", code, out)
	}
}

// TestVMText fixes what people read about machines.
func TestVMText(t *testing.T) {
	since, until := noon.Add(-90*time.Second), noon.Add(-30*time.Second)
	web7 := api.VM{Name: "web7", UUID: "u", Phase: "running", Since: &since, Box: "box3", IP: "10.1.128.7", MAC: "52:54:00:00:00:01", Image: "debian-12", Subnet: "prod", CPUs: 2,
		Memory: 2 << 30, Disk: 20 << 30, Power: "on", Status: "active", Tags: []string{"shop", "web"}, Owner: "shop", Protected: true, Wanted: true, Restart: true}
	list := []api.VM{web7, {Name: "web8", Phase: api.VMPending, CPUs: 1, Memory: 1 << 30, Reason: strings.Repeat("no box has room\x1b ", 9), Wanted: true}, {Name: "odd", Phase: "foreign", Box: "box1", CPUs: 1, Memory: 1000}}
	usage := api.VMUsage{Box: "box3", Datacenter: "dc1", Rack: "r12", Boxes: 1, Machines: 3, Total: api.VMRoom{CPUs: 40, Memory: 64 << 30, Disk: 1 << 40}, Free: api.VMRoom{CPUs: 8, Memory: 2 << 30, Disk: 1 << 39}}
	var all bytes.Buffer
	a := app{stdout: &all, output: formTable}
	for _, c := range []struct {
		name  string
		print func(w io.Writer)
	}{
		{"list", func(w io.Writer) { vmTable(w, list, noon) }},
		{"none", func(w io.Writer) { vmTable(w, nil, noon) }},
		{"show", func(w io.Writer) { vmText(w, web7, noon) }},
		{"explain", func(w io.Writer) {
			vmExplanationText(w, api.VMExplanation{VM: list[1], Reason: "no box fits", Placer: "p", PlacerName: "box1",
				Boxes:   []api.VMVerdict{{Box: "box3", OK: true, Score: 1.5, Reason: "most memory"}, {Box: "box4", Reason: "no bridge br0"}},
				Refused: []api.VMAttempt{{Box: "box3", Reason: "no space", At: until}}}, noon)
		}},
		{"capacity", func(w io.Writer) { vmCapacityText(w, api.VMCapacity{Boxes: []api.VMUsage{usage}, Total: usage}) }},
		{"loss", func(w io.Writer) {
			vmCapacityText(w, api.VMCapacity{Loss: &api.VMLoss{Reason: "1 machine would be gone", Machines: []api.VMLost{{Name: "web7", Box: "box3", Reason: "no room"}}}})
		}},
		{"nothing waits", func(w io.Writer) { destroysText(w, api.VMDestroys{Limit: 5, Recent: make([]api.VMDestroyed, 1)}, noon) }},
	} {
		all.WriteString("# " + c.name + "\n")
		if err := a.print(nil, c.print); err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
	}
	golden(t, "vms.txt", all.Bytes())
}
