package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

// fakeVMs has one machine, and notes what it is told.
type fakeVMs struct {
	err error
	mu  sync.Mutex
	did []string
	// watches are what each who watches is told, one after the other; the last tell nothing.
	watches []chan VMEvent
}

var fakeVM = VM{Name: "web7", UUID: "0acfbcca-161e-427c-8423-ef788bb47f00", Phase: "running", Since: &start, Box: "box3", IP: "10.1.128.7", Wanted: true, CPUs: 2, Memory: 2 << 30, Power: "on", Tags: []string{"web"}}

func (f *fakeVMs) note(who Identity, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, who.User+" "+fmt.Sprintf(format, args...))
}

func (f *fakeVMs) VMs(q VMFilter) (VMList, error) {
	if q.Box == "none" {
		return VMList{}, f.err
	}
	return VMList{Version: "v1", VMs: []VM{fakeVM}}, f.err
}

func (f *fakeVMs) VM(name string) (VM, error) {
	if name != fakeVM.Name {
		return VM{}, fmt.Errorf("machine %s: %w", name, ErrNotFound)
	}
	return fakeVM, f.err
}

func (f *fakeVMs) wrote(who Identity, format string, args ...any) (VMWritten, error) {
	f.note(who, format, args...)
	return VMWritten{Name: "web7", UUID: fakeVM.UUID, Changed: true, Revision: "1.2", Acks: 2}, f.err
}

func (f *fakeVMs) CreateVM(_ context.Context, who Identity, w VMWish) (VMWritten, error) {
	return f.wrote(who, "creates %+v", w)
}

func (f *fakeVMs) SetVMPower(_ context.Context, who Identity, name string, p VMPower) (VMWritten, error) {
	return f.wrote(who, "power %s %+v", name, p)
}

func (f *fakeVMs) DestroyVM(_ context.Context, who Identity, name string, o VMOrder) (VMWritten, error) {
	return f.wrote(who, "destroys %s %+v", name, o)
}

func (f *fakeVMs) UndeleteVM(_ context.Context, who Identity, name string, o VMOrder) (VMWritten, error) {
	return f.wrote(who, "undeletes %s %+v", name, o)
}

func (f *fakeVMs) WatchVMs(ctx context.Context, names []string, tell func(VMEvent) error) error {
	f.note(Identity{}, "watches %s", strings.Join(names, " "))
	f.mu.Lock()
	var events chan VMEvent
	if len(f.watches) > 0 {
		events, f.watches = f.watches[0], f.watches[1:]
	}
	f.mu.Unlock()
	for {
		select {
		case e := <-events:
			if err := tell(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeVMs) told(who Identity, format string, args ...any) (VMDone, error) {
	f.note(who, format, args...)
	return VMDone{Name: "web7", UUID: fakeVM.UUID, Box: "box3", Text: "soon"}, f.err
}

func (f *fakeVMs) RebootVM(_ context.Context, who Identity, name string, o VMReboot) (VMDone, error) {
	return f.told(who, "reboots %s %+v", name, o)
}

func (f *fakeVMs) RetryVM(_ context.Context, who Identity, name string) (VMDone, error) {
	return f.told(who, "retries %s", name)
}

func (f *fakeVMs) PurgeVM(_ context.Context, who Identity, name string, o VMPurge) (VMDone, error) {
	return f.told(who, "purges %s %+v", name, o)
}

func (f *fakeVMs) VMConsole(_ context.Context, who Identity, name string, from int64, wait time.Duration) (VMConsole, error) {
	if who.User == "" {
		return VMConsole{}, fmt.Errorf("nobody: %w", hostdb.ErrDenied)
	}
	f.note(who, "reads %s from %d for %s", name, from, wait)
	return VMConsole{Data: []byte("boot\xff\n"), Next: from + 6}, f.err
}

func (f *fakeVMs) VMDestroys(context.Context) (VMDestroys, error) {
	return VMDestroys{Limit: 5}, f.err
}

func (f *fakeVMs) ApproveVMs(_ context.Context, who Identity, names []string, all bool) (VMApproved, error) {
	f.note(who, "approves %q %v", names, all)
	return VMApproved{VMs: []VM{fakeVM}}, f.err
}

func (f *fakeVMs) ExplainVM(_ context.Context, name string) (VMExplanation, error) {
	return VMExplanation{VM: fakeVM, Reason: name}, f.err
}

func (f *fakeVMs) VMCapacity(_ context.Context, without []string) (VMCapacity, error) {
	out := VMCapacity{}
	if len(without) > 0 {
		out.Loss = &VMLoss{Reason: strings.Join(without, " and ")}
	}
	return out, f.err
}

func (f *fakeVMs) config() Config {
	return Config{VMs: f, VMCommands: f, VMPlanner: f, Watchers: NewWatchers(WatchConfig{}), Identify: identify}
}

// TestVMsAccess: who may read sees them, nothing is done for nobody, and requests make sense before anything is done.
func TestVMsAccess(t *testing.T) {
	f := &fakeVMs{}
	h := NewHandler(f.config())
	for _, c := range []struct {
		method, path, body, from, token string
		status                          int
	}{
		{"GET", "/api/v1/vms", "", near, "", 200},
		{"GET", "/api/v1/vms", "", far, "", 401},
		{"GET", "/api/v1/vms/web7", "", far, "bob", 200},
		{"GET", "/api/v1/vms/web8", "", near, "", 404},
		{"GET", "/api/v1/vms/web7/explain", "", near, "", 200},
		{"GET", "/api/v1/vmcapacity", "", near, "", 200},
		{"GET", "/api/v1/vmdestroys", "", near, "", 200},
		{"GET", "/api/v1/vms/web7/console", "", near, "", 403},
		{"GET", "/api/v1/vms/web7/console?wait_ms=60000", "", near, "root", 422},
		{"POST", "/api/v1/vms", `{"name":"web7","image":"i","subnet":"s","log":" "}`, near, "root", 400},
		{"POST", "/api/v1/vms", `{"name":"web7","image":"i","subnet":"s"}`, near, "root", 422},
		{"POST", "/api/v1/vms", `{"name":"web7","image":"i","subnet":"s","log":"x","cpus":-1}`, near, "root", 422},
		{"POST", "/api/v1/vms/web7/power", `{"on":true,"log":""}`, near, "root", 400},
		{"POST", "/api/v1/vms/web7/undelete", `{"log":"\n"}`, near, "root", 400},
		{"DELETE", "/api/v1/vms/web7", "", near, "root", 422},
		{"DELETE", "/api/v1/vms/web7?log=+", "", near, "root", 400},
		{"POST", "/api/v1/vmdestroys", `{}`, near, "root", 400},
		{"POST", "/api/v1/vmdestroys", `{"all":true,"names":["web7"]}`, near, "root", 400},
		{"GET", "/api/v1/vms/web7/reboot", "", near, "root", 405},
	} {
		if w := askUsers(h, c.method, c.path, c.body, c.from, c.token); w.Code != c.status {
			t.Errorf("%s %s by %q: %d, want %d: %s", c.method, c.path, c.token, w.Code, c.status, w.Body)
		}
	}
	if len(f.did) > 0 {
		t.Errorf("it was done: %q", f.did)
	}
	for _, c := range [][2]string{
		{"POST /api/v1/vms", `{"name":"web7","image":"i","subnet":"s","log":"x"}`}, {"POST /api/v1/vms/web7/power", `{"on":false,"log":"x"}`},
		{"POST /api/v1/vms/web7/reboot", `{}`}, {"POST /api/v1/vms/web7/retry", ""}, {"POST /api/v1/vms/web7/purge", `{}`},
		{"POST /api/v1/vms/web7/undelete", `{"log":"x"}`}, {"DELETE /api/v1/vms/web7?log=x", ""}, {"POST /api/v1/vmdestroys", `{"all":true}`},
	} {
		method, path, _ := strings.Cut(c[0], " ")
		for token, want := range map[string]int{"": 401, "bob": 200} { // what bob may is the host's matter
			before := len(f.did)
			w := askUsers(h, method, path, c[1], near, token)
			if w.Code != want || (len(f.did) > before) != (want == 200) {
				t.Errorf("%s by %q: %d, want %d: %s", c[0], token, w.Code, want, w.Body)
			}
		}
	}
}

// TestVMsErrors: each kind of error has its status, and says what to do.
func TestVMsErrors(t *testing.T) {
	f := &fakeVMs{}
	h := NewHandler(f.config())
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("%w: web7 is stopped", ErrVMState), 409}, {fmt.Errorf("box3: %w", ErrVMAway), 503}, {fmt.Errorf("no leader: %w", ErrNoDuties), 503},
		{fmt.Errorf("web7: %w", hostdb.ErrExists), 409}, {hostdb.ErrInvalid, 400}, {hostdb.ErrBadName, 400}, {hostdb.ErrDenied, 403}, {hostdb.ErrProtected, 403},
		{ErrVMGone, 410}, {hostdb.ErrNotFound, 404}, {hostdb.ErrReadOnly, 503}, {context.DeadlineExceeded, 504}, {errors.New("surprise"), 500},
	} {
		f.err = c.err
		for _, path := range []string{"/api/v1/vms", "/api/v1/vms/web7", "/api/v1/vms/web7/explain", "/api/v1/vmcapacity", "/api/v1/vmdestroys"} {
			if w := askUsers(h, "GET", path, "", near, ""); w.Code != c.status || !strings.Contains(w.Body.String(), c.err.Error()) {
				t.Errorf("%s with %v: %d: %s", path, c.err, w.Code, w.Body)
			}
		}
		for path, body := range map[string]string{"/api/v1/vms/web7/reboot": `{}`, "/api/v1/vms/web7/undelete": `{"log":"x"}`} {
			if w := askUsers(h, "POST", path, body, near, "root"); w.Code != c.status {
				t.Errorf("%s with %v: %d: %s", path, c.err, w.Code, w.Body)
			}
		}
	}
}

// TestVMsClient: client and handler understand each other.
func TestVMsClient(t *testing.T) {
	f := &fakeVMs{}
	c := serve(t, NewHandler(f.config()), "root")
	ctx := t.Context()
	if list, err := c.VMs(ctx, VMFilter{Tag: "web"}); err != nil || len(list.VMs) != 1 || !cmp.Equal(list.VMs[0], fakeVM) {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := c.VMs(ctx, VMFilter{Box: "none"}); err != nil || list.VMs == nil {
		t.Errorf("%+v, %v", list, err)
	}
	if vm, err := c.VM(ctx, "web7"); err != nil || !cmp.Equal(vm, fakeVM) {
		t.Errorf("%+v, %v", vm, err)
	}
	if _, err := c.VM(ctx, "a b?c"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "a b?c") {
		t.Error(err)
	}
	if w, err := c.CreateVM(ctx, VMWish{Name: "web7", Image: "debian-12", Subnet: "prod", Tags: []string{"web"}, Log: "x"}); err != nil || !w.Changed || w.Warnings == nil || w.UUID != fakeVM.UUID {
		t.Errorf("%+v, %v", w, err)
	}
	part, err := c.VMConsole(ctx, "web7", -10, time.Hour)
	if err != nil || string(part.Data) != "boot\xff\n" || part.Next != -4 {
		t.Errorf("%+v, %v", part, err)
	}
	if v, err := c.VMCapacity(ctx, []string{"box3", "rack:dc1/r2"}); err != nil || v.Boxes == nil || v.Loss == nil || v.Loss.Reason != "box3 and rack:dc1/r2" {
		t.Errorf("%+v, %v", v, err)
	}
	if e, err := c.ExplainVM(ctx, "web7"); err != nil || e.Boxes == nil || e.Reason != "web7" {
		t.Errorf("%+v, %v", e, err)
	}
	d, err := c.VMDestroys(ctx)
	if err != nil || d.Limit != 5 || d.Recent == nil || d.Waiting == nil || d.Approved == nil {
		t.Errorf("%+v, %v", d, err)
	}
	_, e1 := c.SetVMPower(ctx, "web7", VMPower{On: true, Log: "l"})
	_, e2 := c.DestroyVM(ctx, "web7", VMOrder{Override: "o", Log: "l"})
	_, e3 := c.UndeleteVM(ctx, "web7", VMOrder{Log: "l"})
	_, e4 := c.RebootVM(ctx, "web7", VMReboot{Hard: true})
	_, e5 := c.RetryVM(ctx, "web7")
	_, e6 := c.PurgeVM(ctx, "web7", VMPurge{})
	_, e7 := c.ApproveVMs(ctx, []string{"web7"}, false)
	if err := errors.Join(e1, e2, e3, e4, e5, e6, e7); err != nil {
		t.Error(err)
	}
	var want []string
	for _, did := range []string{
		"creates {Name:web7 Image:debian-12 Subnet:prod CPUs:0 Memory: Disk: Tags:[web] IP: Protected:false Owner: Expires: Off:false Log:x}",
		"reads web7 from -10 for 25s", "power web7 {On:true Override: Log:l}", "destroys web7 {Override:o Log:l}", "undeletes web7 {Override: Log:l}",
		"reboots web7 {Hard:true Override:}", "retries web7", "purges web7 {UUID: Override:}", `approves ["web7"] false`,
	} {
		want = append(want, "root(alice) "+did)
	}
	if diff := cmp.Diff(want, f.did); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestVMEvents: who watches hears how all stand, then synced, then each change; and again from the beginning when the
// connection breaks.
func TestVMEvents(t *testing.T) {
	script := func(list ...VMEvent) chan VMEvent {
		ch := make(chan VMEvent, len(list))
		for _, e := range list {
			ch <- e
		}
		return ch
	}
	here, gone, synced := VMEvent{Kind: EventVM, At: start, VM: &fakeVM}, VMEvent{Kind: EventVM, At: start, Gone: "web7", UUID: fakeVM.UUID}, VMEvent{Kind: EventSynced, At: start}
	f := &fakeVMs{watches: []chan VMEvent{script(here, synced, gone), script(synced), script(synced)}}
	w := NewWatchers(WatchConfig{})
	cfg := f.config()
	cfg.Watchers = w
	srv := httptest.NewServer(NewHandler(cfg))
	defer srv.Close()
	c, err := NewClient(ClientConfig{Server: srv.URL, Token: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broken := 0
	var heard []string
	for e, err := range c.WatchVMs(ctx, []string{"web7", "web8"}, func(error) { broken++ }) {
		if err != nil {
			t.Fatal(err)
		}
		if heard = append(heard, e.Kind+" "+e.Name()+" "+e.ID()); len(heard) == 3 {
			srv.CloseClientConnections()
		}
		if len(heard) == 4 {
			break
		}
	}
	want := []string{"vm web7 " + fakeVM.UUID, "synced  ", "vm web7 " + fakeVM.UUID, "synced  "}
	if diff := cmp.Diff(want, heard); diff != "" || broken == 0 {
		t.Errorf("broken %d times (-want +got):\n%s", broken, diff)
	}
	f.mu.Lock()
	if len(f.did) != 2 || f.did[0] != " watches web7 web8" {
		t.Errorf("%q", f.did)
	}
	f.mu.Unlock()

	// Who comes with a session that is over is refused, and does not try for ever.
	over, err := NewClient(ClientConfig{Server: srv.URL, Token: "over"})
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	for _, err := range over.WatchVMs(ctx, nil, nil) {
		if !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%v", err)
		}
	}

	// An agent that stops says bye, and lets the reader go.
	why := ""
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for e, err := range c.WatchVMs(watching, nil, func(err error) { why = err.Error(); stop() }) {
		if err != nil || e.Kind != EventSynced {
			t.Fatalf("%+v %v", e, err)
		}
		w.Close()
	}
	if !strings.Contains(why, "the agent stops") {
		t.Errorf("it ended because %q", why)
	}
	for end := time.Now().Add(20 * time.Second); w.Stats().Watching > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if n := w.Stats().Watching; n != 0 {
		t.Errorf("%d are watching", n)
	}
}
