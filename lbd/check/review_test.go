package check

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
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

// blocking is a prober that one member keeps waiting for long, once.
type blocking struct {
	once  sync.Once
	mu    sync.Mutex
	asked []time.Time // of the other
}

func (p *blocking) Probe(_ context.Context, t Target) error {
	if t.Host == "slow" {
		p.once.Do(func() { time.Sleep(time.Minute) })
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, time.Now())
	return nil
}

// TestReviewNothingIsMadeUpFor: checks that could not be made for a while are not all made when they can be.
func TestReviewNothingIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &blocking{}
		r, err := Open(Config{Prober: func(string) Prober { return p }, Parallel: 1, Timeout: time.Hour, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		slow, other := spec("slow"), spec("other")
		slow.Interval, other.Interval = time.Hour, time.Second
		if err := r.Set([]Spec{slow, other}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		time.Sleep(3 * time.Hour)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		gap := time.Duration(0)
		for i, at := range p.asked {
			if i > 0 {
				gap = max(gap, at.Sub(p.asked[i-1]))
			}
			if i >= 4 && at.Sub(p.asked[i-4]) < 2*time.Second {
				t.Fatalf("five within %s", at.Sub(p.asked[i-4]))
			}
		}
		if gap < 30*time.Second {
			t.Fatalf("nothing was missed: %s", gap)
		}
	})
}
