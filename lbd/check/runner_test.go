package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/mesh/report"
)

// script answers as it is told.
type script struct {
	mu      sync.Mutex
	answers map[string]error
	asked   map[string][]time.Time
	slow    bool // it answers when time is up
	at, top atomic.Int64
}

func newScript() *script {
	return &script{answers: map[string]error{}, asked: map[string][]time.Time{}}
}

func (s *script) set(host string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[host] = err
}

func (s *script) times(host string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time{}, s.asked[host]...)
}

func (s *script) Probe(ctx context.Context, t Target) error {
	n := s.at.Add(1)
	defer s.at.Add(-1)
	for top := s.top.Load(); n > top && !s.top.CompareAndSwap(top, n); top = s.top.Load() {
	}
	s.mu.Lock()
	s.asked[t.Host] = append(s.asked[t.Host], time.Now())
	err, slow := s.answers[t.Host], s.slow
	s.mu.Unlock()
	if slow {
		<-ctx.Done()
		return errors.New("no answer in time")
	}
	if err != nil && err.Error() == "panic" {
		panic("by the script")
	}
	return err
}

func spec(host string) Spec {
	return Spec{Type: "tcp", Target: Target{Addr: netip.MustParseAddr("10.1.0.7"), Port: 80, Proto: "tcp", Host: host, Tag: "web"}, Interval: 2 * time.Second, Rise: 2, Fall: 3}
}

func start(t *testing.T, s Prober, parallel int) *Runner {
	t.Helper()
	cfg := DefaultConfig(t.TempDir())
	cfg.Prober, cfg.Logger, cfg.Parallel = func(string) Prober { return s }, slog.New(slog.DiscardHandler), parallel
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestNext is what follows from answers, one after the other: g is good, b is bad, r a remark.
func TestNext(t *testing.T) {
	for _, tt := range []struct{ answers, states string }{
		{"g", "U"}, {"b", "?"}, {"bb", "??"}, {"bbb", "??D"}, {"bbg", "??U"},
		{"gbbgbb", "UUUUUU"}, {"gbbb", "UUUD"}, {"gbbbb", "UUUDD"}, {"gbbbg", "UUUDD"}, {"gbbbgg", "UUUDDU"},
		{"gbbbgbgg", "UUUDDDDU"}, {"r", "U"}, {"gbbbrr", "UUUDDU"},
	} {
		x, got := Result{State: Unknown}, ""
		at := time.Unix(0, 0)
		for _, a := range tt.answers {
			var err error
			switch a {
			case 'b':
				err = errors.New("refused")
			case 'r':
				err = Remark("saturated")
			}
			at = at.Add(time.Second)
			was := x
			x = x.next(spec("a"), err, at, time.Millisecond)
			if changed := x.State != was.State; changed != x.Since.Equal(at) && !(changed && x.Since.Equal(at)) {
				t.Errorf("%s: since %s", tt.answers, x.Since)
			}
			if a == 'g' && x.State == Up && x.Reason != "" || a != 'g' && x.Reason == "" && x.State != Down {
				t.Errorf("%s: reason %q", tt.answers, x.Reason)
			}
			got += map[State]string{Unknown: "?", Up: "U", Down: "D"}[x.State]
		}
		if got != tt.states {
			t.Errorf("%s gives %s, not %s", tt.answers, got, tt.states)
		}
	}
}

// TestRunner: a target that dies is down after Fall answers and up again after Rise; each step is poked, and stands in the report.
func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		r := start(t, s, 4)
		if err := r.Set([]Spec{spec("a"), spec("b")}); err != nil {
			t.Fatal(err)
		}
		if got := r.Checks(); len(got) != 0 {
			t.Errorf("before the first answer it reports %v", got)
		}
		key := spec("a").Key()
		await := func(state report.CheckState, bad int) time.Duration {
			t.Helper()
			began := time.Now()
			for {
				if c := r.Checks()[key]; c.State == state && c.Bad == bad {
					return time.Since(began)
				}
				select {
				case <-r.Changed():
				case <-time.After(time.Minute):
					t.Fatalf("it stays %+v", r.Checks()[key])
				}
			}
		}
		await(report.CheckUp, 0)
		s.set("a", errors.New("connection refused"))
		if took := await(report.CheckDown, 3); took > 7*time.Second {
			t.Errorf("down after %s", took)
		}
		if c := r.Checks()[key]; c.Reason != "connection refused" || c.Interval != 2000 || c.Since == 0 {
			t.Errorf("%+v", c)
		}
		s.set("a", nil)
		if took := await(report.CheckUp, 0); took > 5*time.Second {
			t.Errorf("up after %s", took)
		}
		s.set("a", errors.New("panic"))
		await(report.CheckDown, 3)
		if c := r.Checks()[spec("b").Key()]; c.State != report.CheckUp {
			t.Errorf("the other: %+v", c)
		}
		// What stays keeps what is known; what has another address begins anew; what goes is asked no more.
		moved := spec("a")
		moved.Target.Addr = netip.MustParseAddr("10.1.0.8")
		wider := spec("b")
		wider.Interval = time.Second
		if err := r.Set([]Spec{moved, wider}); err != nil {
			t.Fatal(err)
		}
		if x := r.Results(); x[key].State != Unknown || x[spec("b").Key()].State != Up {
			t.Errorf("%+v", x)
		}
		if err := r.Set(nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n := len(s.times("b"))
		time.Sleep(time.Minute)
		if len(s.times("b")) != n || len(r.Checks()) != 0 {
			t.Error("what is not wanted is still checked")
		}
	})
}

// TestPace: a thousand checks are spread over the interval, none is made more than a tenth too early or too late, and none is forgotten.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		r := start(t, s, 256)
		var specs []Spec
		for i := range 1000 {
			specs = append(specs, spec(fmt.Sprint("h", i)))
		}
		began := time.Now()
		if err := r.Set(specs); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		perSecond := map[int]int{}
		for i := range 1000 {
			at := s.times(fmt.Sprint("h", i))
			if len(at) < 27 || len(at) > 34 {
				t.Fatalf("%d checks in a minute", len(at))
			}
			for k, x := range at {
				perSecond[int(x.Sub(began)/time.Second)]++
				if k > 0 {
					if d := x.Sub(at[k-1]); d < 1790*time.Millisecond || d > 2210*time.Millisecond {
						t.Fatalf("%s between two", d)
					}
				}
			}
		}
		for sec := range 59 {
			if n := perSecond[sec]; n < 350 || n > 650 {
				t.Errorf("second %d has %d checks of 500", sec, n)
			}
		}
	})
}

// TestBounded: with all targets silent no more probes than allowed run at once, each ends with its interval, and all are tried.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.slow = true
		r := start(t, s, 50)
		var specs []Spec
		for i := range 1000 {
			specs = append(specs, spec(fmt.Sprint("h", i)))
		}
		if err := r.Set(specs); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * 45 * time.Second) // 1000 / 50 * 2 s = 40 s a round
		if top := s.top.Load(); top != 50 {
			t.Errorf("%d probes at once", top)
		}
		down := 0
		for _, x := range r.Results() {
			if x.State == Down && x.Latency <= 2*time.Second {
				down++
			}
		}
		r.mu.Lock()
		late := r.counts.late
		r.mu.Unlock()
		if down != 1000 || late == 0 {
			t.Errorf("%d are down, %d were late", down, late)
		}
	})
}

// TestStopSaysNothing: probes that end because the agent does are no bad answers.
func TestStopSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.slow = true
		cfg := DefaultConfig("")
		cfg.Prober, cfg.Logger = func(string) Prober { return s }, slog.New(slog.DiscardHandler)
		r, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		one := spec("a")
		one.Fall, one.Interval = 1, time.Hour
		if err := r.Set([]Spec{one}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		for len(s.times("a")) == 0 {
			time.Sleep(time.Second)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if x := r.Results()[one.Key()]; x.State != Unknown || !x.Last.IsZero() {
			t.Errorf("%+v", x)
		}
	})
}

func TestBadSpecs(t *testing.T) {
	r := start(t, newScript(), 1)
	for say, edit := range map[string]func(s *Spec){
		"interval 0s": func(s *Spec) { s.Interval = 0 },
		"rise 0":      func(s *Spec) { s.Rise = 0 },
		"fall 0":      func(s *Spec) { s.Fall = 0 },
		"in two ways": func(s *Spec) { s.Rise++ },
	} {
		bad := spec("a")
		edit(&bad)
		if err := r.Set([]Spec{spec("a"), bad}); err == nil || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), spec("a").Key()) {
			t.Errorf("%s: %v", say, err)
		}
	}
	if n := len(r.Results()); n != 0 {
		t.Errorf("a bad set leaves %d checks", n)
	}
}
