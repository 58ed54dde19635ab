package check

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestReviewReasonsThatVary: a program that prints the time, or an error that names a port, is no news with each bad answer of one that is down: what is
// in a report is told to everybody.
func TestReviewReasonsThatVary(t *testing.T) {
	x, at, told := Result{State: Unknown}, time.Unix(0, 0), map[string]bool{}
	for i := range 600 {
		at = at.Add(time.Second)
		x = x.next(spec("a"), fmt.Errorf("at %d", i), at, time.Millisecond)
		if x.State == Down {
			told[x.Reason] = true
		}
	}
	if len(told) < 5 || len(told) > 15 {
		t.Errorf("%d reasons within ten minutes", len(told))
	}
	for range 2 {
		x = x.next(spec("a"), nil, at, time.Millisecond)
	}
	for range 3 {
		x = x.next(spec("a"), fmt.Errorf("new"), at, time.Millisecond)
	}
	if x.State != Down || x.Reason != "new" {
		t.Errorf("down again: %s, %q", x.State, x.Reason)
	}
}

// TestReviewHTTPNames: a host may have a name that no Host header can have.
func TestReviewHTTPNames(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "" { // as servers do
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer s.Close()
	for _, name := range []string{"web 1", "wéb", "a:b", "web1", "[", "a@b", "x\"y", "%zz"} {
		x := target(t, s.Listener.Addr().String(), "tcp")
		x.Host = name
		if err := probe(t, HTTP{}, x, patient); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
