package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

// fakeLB has one tag, and notes what it is told.
type fakeLB struct {
	err error
	did []string
}

var fakeService = LBService{
	Tag: "web", Balanced: true, VIP: "10.1.0.50", Ports: []LBPort{{Port: 80, Proto: "tcp", To: 8080}}, Version: "v1", Holder: &LBHolder{NodeName: NodeName{ID: "n1"}, Fence: 7, Since: &start},
	Backends: []LBBackend{{Host: "web1", Addr: "10.1.8.1", State: LBIn, Checks: []LBSight{{NodeName: NodeName{ID: "n1"}, Holder: true, State: "up"}}}},
	Problems: []LBProblem{{Name: "no-address", Host: "web2", Text: "it has none"}},
}

func (f *fakeLB) LBServices(context.Context) (LBList, error) {
	return LBList{Version: "v1", Services: []LBService{fakeService, {Tag: "bad", Backends: []LBBackend{{}}}}}, f.err
}

func (f *fakeLB) LBService(_ context.Context, tag string) (LBService, error) {
	if tag != "web" {
		return LBService{}, fmt.Errorf("tags/%s: %w", tag, ErrNotFound)
	}
	return fakeService, f.err
}

func (f *fakeLB) ExplainLB(_ context.Context, tag, host string) (LBExplanation, error) {
	return LBExplanation{Tag: tag, Host: host}, f.err
}

func (f *fakeLB) DrainLBHost(_ context.Context, who Identity, host string, d LBDrain) (LBWritten, error) {
	f.did = append(f.did, fmt.Sprintf("%s drains %s %+v", who.User, host, d))
	return LBWritten{Host: host, Changed: true}, f.err
}

func (f *fakeLB) EnableLBHost(_ context.Context, who Identity, host string, e LBEnable) (LBWritten, error) {
	f.did = append(f.did, fmt.Sprintf("%s enables %s %+v", who.User, host, e))
	return LBWritten{Host: host, Changed: true}, f.err
}

// TestLBAccess: who may read sees it, nothing is done for nobody, and requests make sense before anything is done.
func TestLBAccess(t *testing.T) {
	f := &fakeLB{}
	h := NewHandler(Config{LB: f, Identify: identify})
	for _, c := range []struct {
		method, path, body, from, token string
		status                          int
	}{
		{"GET", "/api/v1/lb", "", near, "", 200},
		{"GET", "/api/v1/lb", "", far, "", 401},
		{"GET", "/api/v1/lb/web", "", far, "bob", 200},
		{"GET", "/api/v1/lb/none", "", near, "", 404},
		{"GET", "/api/v1/lb/web/explain?host=web1", "", near, "", 200},
		{"POST", "/api/v1/lbhosts/web1/drain", `{"log":"x"}`, near, "", 401},
		{"POST", "/api/v1/lbhosts/web1/enable", `{"log":"x"}`, near, "", 401},
		{"POST", "/api/v1/lbhosts/web1/drain", `{"log":" "}`, near, "bob", 400},
		{"POST", "/api/v1/lbhosts/web1/drain", `{"reason":"x"}`, near, "bob", 422},
		{"POST", "/api/v1/lbhosts/web1/enable", `{"log":"\n"}`, near, "bob", 400},
		{"GET", "/api/v1/lbhosts/web1/drain", "", near, "bob", 405},
	} {
		if w := askUsers(h, c.method, c.path, c.body, c.from, c.token); w.Code != c.status {
			t.Errorf("%s %s by %q: %d, want %d: %s", c.method, c.path, c.token, w.Code, c.status, w.Body)
		}
	}
	if len(f.did) > 0 {
		t.Errorf("it was done: %q", f.did)
	}
	for err, status := range map[error]int{hostdb.ErrDenied: 403, ErrNoDuties: 503, hostdb.ErrReadOnly: 503, hostdb.ErrInvalid: 400, context.DeadlineExceeded: 504} {
		f.err = err
		for path, body := range map[string]string{"/api/v1/lbhosts/web1/drain": `{"log":"x"}`, "/api/v1/lbhosts/web1/enable": `{"log":"x"}`} {
			if w := askUsers(h, "POST", path, body, near, "bob"); w.Code != status || !strings.Contains(w.Body.String(), err.Error()) {
				t.Errorf("%s with %v: %d: %s", path, err, w.Code, w.Body)
			}
		}
	}
}

// TestLBClient: client and handler understand each other, and lists are never null.
func TestLBClient(t *testing.T) {
	f := &fakeLB{}
	c := serve(t, NewHandler(Config{LB: f, Identify: identify}), "root")
	ctx := t.Context()
	list, err := c.LBServices(ctx)
	if err != nil || list.Version != "v1" || len(list.Services) != 2 || !cmp.Equal(list.Services[0], fakeService) {
		t.Errorf("%+v, %v", list, err)
	}
	if bad := list.Services[1]; bad.Ports == nil || bad.Problems == nil || bad.Backends[0].Checks == nil {
		t.Errorf("a list is null: %+v", bad)
	}
	if s, err := c.LBService(ctx, "web"); err != nil || !cmp.Equal(s, fakeService) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.LBService(ctx, "a b?c"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "a b?c") {
		t.Error(err)
	}
	if e, err := c.ExplainLB(ctx, "web", "a b&c"); err != nil || e.Host != "a b&c" || e.Lines == nil {
		t.Errorf("%+v, %v", e, err)
	}
	w, e1 := c.DrainLBHost(ctx, "web 1", LBDrain{Reason: "r", Log: "l"})
	_, e2 := c.EnableLBHost(ctx, "web1", LBEnable{Log: "l"})
	if err := errors.Join(e1, e2); err != nil || !w.Changed || w.Tags == nil || w.Warnings == nil {
		t.Errorf("%+v %v", w, err)
	}
	if want := []string{"root(alice) drains web 1 {Reason:r Log:l}", "root(alice) enables web1 {Log:l}"}; !cmp.Equal(want, f.did) {
		t.Errorf("%q, want %q", f.did, want)
	}
}
