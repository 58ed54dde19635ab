package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

// fakeDuties holds one duty, and notes what it is told.
type fakeDuties struct {
	err error
	did []string
}

var (
	fakeGroup = DutyGroup{ID: strings.Repeat("c", 32), Generation: 1, Datacenter: "dc1", Home: true}
	fakeDuty  = Duty{Duty: "vip/10.1.0.53", Node: strings.Repeat("a", 32), Name: "box1", Fence: 7, Since: &start, Candidates: 2}
)

func (f *fakeDuties) note(who Identity, format string, args ...any) {
	f.did = append(f.did, who.User+" "+fmt.Sprintf(format, args...))
}

func (f *fakeDuties) Duties(context.Context) (DutyList, error) {
	return DutyList{Group: fakeGroup, Duties: []Duty{fakeDuty}}, f.err
}

func (f *fakeDuties) ExplainDuty(_ context.Context, duty string) (DutyExplanation, error) {
	if duty != fakeDuty.Duty {
		return DutyExplanation{}, fmt.Errorf("duty %q: %w", duty, ErrNotFound)
	}
	return DutyExplanation{Duty: fakeDuty, Silent: 1}, f.err
}

func (f *fakeDuties) MoveDuty(_ context.Context, who Identity, duty, node string) (Duty, error) {
	f.note(who, "moves %s to %s", duty, node)
	return fakeDuty, f.err
}

func (f *fakeDuties) Voters(context.Context) (DutyVoters, error) {
	return DutyVoters{Group: fakeGroup}, f.err
}

func (f *fakeDuties) FoundDuties(_ context.Context, who Identity, how FoundDuties) (DutyGroup, error) {
	f.note(who, "founds %+v", how)
	return fakeGroup, f.err
}

func (f *fakeDuties) RecoverDuties(_ context.Context, who Identity, force bool) (DutyGroup, error) {
	f.note(who, "recovers %v", force)
	return fakeGroup, f.err
}

func (f *fakeDuties) ExcuseNode(_ context.Context, who Identity, node string) (NodeName, error) {
	f.note(who, "excuses %s", node)
	return NodeName{ID: node}, f.err
}

func (f *fakeDuties) DrainNode(_ context.Context, who Identity, node, reason string) (DrainedNode, error) {
	f.note(who, "drains %s: %s", node, reason)
	return DrainedNode{Node: node, Holds: 3}, f.err
}

func (f *fakeDuties) UndrainNode(_ context.Context, who Identity, node string) (NodeName, error) {
	f.note(who, "undrains %s", node)
	return NodeName{ID: node}, f.err
}

// TestDutiesAccess: everybody who may read sees who holds what; only administrators change it, with requests that make sense.
func TestDutiesAccess(t *testing.T) {
	f := &fakeDuties{}
	h := NewHandler(Config{Duties: f, Identify: identify})
	for _, c := range []struct {
		method, path, body, from, token string
		status                          int
	}{
		{"GET", "/api/v1/duties", "", near, "", 200},
		{"GET", "/api/v1/duties", "", far, "", 401},
		{"GET", "/api/v1/duties/explain?duty=vip/10.1.0.53", "", far, "bob", 200},
		{"GET", "/api/v1/duties/explain?duty=vip%2F10.1.0.53", "", near, "", 200},
		{"GET", "/api/v1/duties/explain?duty=other", "", near, "", 404},
		{"GET", "/api/v1/duties/explain", "", near, "", 422},
		{"GET", "/api/v1/duties/voters", "", near, "", 200},
		{"POST", "/api/v1/duties/move", `{"duty":"mirror"}`, near, "root", 422},
		{"POST", "/api/v1/nodes/box1/drain", `{"reason":" "}`, near, "root", 400},
		{"POST", "/api/v1/nodes/box1/drain", `{}`, near, "root", 422},
		{"GET", "/api/v1/nodes/box1/drain", "", near, "root", 405},
	} {
		if w := askUsers(h, c.method, c.path, c.body, c.from, c.token); w.Code != c.status {
			t.Errorf("%s %s by %q: %d, want %d: %s", c.method, c.path, c.token, w.Code, c.status, w.Body)
		}
	}
	if len(f.did) > 0 {
		t.Errorf("it was done: %q", f.did)
	}
	for path, body := range map[string]string{
		"/api/v1/duties/move": `{"duty":"mirror","node":"box2"}`, "/api/v1/duties/found": `{}`, "/api/v1/duties/recover": `{"force":true}`,
		"/api/v1/duties/excuse": `{"node":"box2"}`, "/api/v1/nodes/box2/drain": `{"reason":"memory"}`, "/api/v1/nodes/box2/undrain": "",
	} {
		for token, want := range map[string]int{"": 401, "bob": 403, "root": 200} {
			before := len(f.did)
			w := askUsers(h, "POST", path, body, near, token)
			if w.Code != want || (len(f.did) > before) != (want == 200) {
				t.Errorf("POST %s by %q: %d, want %d: %s", path, token, w.Code, want, w.Body)
			}
		}
	}
}

// TestDutiesErrors: each kind of error has its status, and says what to do.
func TestDutiesErrors(t *testing.T) {
	f := &fakeDuties{}
	h := NewHandler(Config{Duties: f, Identify: identify})
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("no leader: %w", ErrNoDuties), 503}, {fmt.Errorf("it is drained: %w", ErrDutyConflict), 409}, {ErrAmbiguous, 409}, {ErrNotFound, 404},
		{hostdb.ErrInvalid, 400}, {context.DeadlineExceeded, 504}, {errors.New("surprise"), 500},
	} {
		f.err = c.err
		for _, path := range []string{"/api/v1/duties", "/api/v1/duties/explain?duty=vip/10.1.0.53", "/api/v1/duties/voters"} {
			w := askUsers(h, "GET", path, "", near, "")
			var p struct{ Detail string }
			if err := json.Unmarshal(w.Body.Bytes(), &p); w.Code != c.status || err != nil || p.Detail != c.err.Error() {
				t.Errorf("%s with %v: %d: %s", path, c.err, w.Code, w.Body)
			}
		}
	}
}

// TestDutiesClient: client and handler understand each other.
func TestDutiesClient(t *testing.T) {
	f := &fakeDuties{}
	srv := httptest.NewServer(NewHandler(Config{Duties: f, Identify: identify}))
	defer srv.Close()
	c, err := NewClient(ClientConfig{Server: srv.URL, Token: "root"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	if list, err := c.Duties(ctx); err != nil || list.Group != fakeGroup || len(list.Duties) != 1 || !cmp.Equal(list.Duties[0], fakeDuty) {
		t.Errorf("%+v, %v", list, err)
	}
	if e, err := c.ExplainDuty(ctx, fakeDuty.Duty); err != nil || !cmp.Equal(e.Duty, fakeDuty) || e.Nodes == nil || e.Silent != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := c.ExplainDuty(ctx, "a&b=c"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"a&b=c"`) {
		t.Errorf("%v", err)
	}
	if v, err := c.DutyVoters(ctx); err != nil || v.Voters == nil || v.Group != fakeGroup {
		t.Errorf("%+v, %v", v, err)
	}
	if d, err := c.MoveDuty(ctx, "vip/10.1.0.53", "box2"); err != nil || !cmp.Equal(d, fakeDuty) {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := c.DrainNode(ctx, "box/2", "memory"); err != nil || d.Holds != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	_, e1 := c.FoundDuties(ctx, FoundDuties{Home: true})
	_, e2 := c.RecoverDuties(ctx, true)
	_, e3 := c.ExcuseNode(ctx, "box2")
	_, e4 := c.UndrainNode(ctx, "box2")
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		t.Error(err)
	}
	var want []string
	for _, did := range []string{"moves vip/10.1.0.53 to box2", "drains box/2: memory", "founds {Home:true Force:false}", "recovers true", "excuses box2", "undrains box2"} {
		want = append(want, "root(alice) "+did)
	}
	if diff := cmp.Diff(want, f.did); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.err = fmt.Errorf("no leader: %w", ErrNoDuties)
	if _, err := c.Duties(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	f.err = ErrDutyConflict
	if _, err := c.MoveDuty(ctx, "mirror", "box2"); !errors.Is(err, ErrConflict) {
		t.Errorf("%v", err)
	}
}
