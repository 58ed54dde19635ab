package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ackedWrites are what agents have acknowledged, and what each of those writes has to be found as.
type ackedWrites struct {
	t  *testing.T
	to *box

	mu     sync.Mutex        // guards the fields below
	held   map[string]string // the document of a host
	rounds int
}

func newAckedWrites(to *box) *ackedWrites {
	return &ackedWrites{t: to.site.t, to: to, held: map[string]string{}}
}

func (l *ackedWrites) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

func (l *ackedWrites) note(name, doc string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = doc
}

// atLeast waits until so many writes are acknowledged.
func (l *ackedWrites) atLeast(n int) {
	l.t.Helper()
	wait(l.t, fmt.Sprintf("%d acknowledged writes", n), func() error {
		if l.len() < n {
			return fmt.Errorf("there are %d", l.len())
		}
		return nil
	})
}

// write has clients write, each its own hosts, from before meanwhile begins until it has ended. Refusals are no fault; what was
// acknowledged is noted. seen, if any, is asked about each answer to an acknowledged write.
func (l *ackedWrites) write(clients int, seen func(name, doc string, h http.Header) error, meanwhile func()) {
	l.t.Helper()
	l.mu.Lock()
	l.rounds++
	round := l.rounds
	l.mu.Unlock()
	stop := make(chan struct{})
	var g sync.WaitGroup
	for c := range clients {
		g.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				size := 20 + n*31%300
				if n%25 == 24 {
					size = 60_000
				}
				name := fmt.Sprintf("l%d-%d-%d", round, c, n)
				doc := fmt.Sprintf("Owner: %d\nPad: %s", n, strings.Repeat("x", size))
				h, err := l.to.putAnswer("hosts/"+name, doc, "")
				if err != nil {
					time.Sleep(5 * time.Millisecond) // a refusal, or nobody there: no reason to press it
					continue
				}
				l.note(name, doc)
				if seen != nil {
					if err := seen(name, doc, h); err != nil {
						l.t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
	meanwhile()
	close(stop)
	g.Wait()
}

// check looks for every acknowledged write at b.
func (l *ackedWrites) check(b *box) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := 0
	for name, doc := range l.held {
		if got, err := b.get("hosts/" + name); err != nil || got != doc {
			if lost++; lost <= 3 {
				l.t.Errorf("%s: hosts/%s was acknowledged and is %.80q, %v", b.name, name, got, err)
			}
		}
	}
	if lost > 0 {
		l.t.Fatalf("%s has lost %d of %d acknowledged writes", b.name, lost, len(l.held))
	}
}

// refusal is an answer other than the one that acknowledges a write.
type refusal struct {
	status int
	header http.Header
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.header.Get("CallTrace")) }

// putAnswer writes as any client would and gives the header of the answer; an error is a *refusal when there was one.
func (b *box) putAnswer(id, value, query string) (http.Header, error) {
	form := url.Values{"value": {value}, "log": {"test"}, "session": {b.site.token}}
	req, err := http.NewRequest(http.MethodPut, b.url("/v1/"+id+query), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.web.Do(req)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return nil, &refusal{resp.StatusCode, resp.Header}
	}
	return resp.Header, nil
}

// TestKilledAgent kills one of two agents at any moment while eight clients write to it, again and again. What it said that two
// hold is at the other one while it is dead, and all that it acknowledged is there when it is started again.
//
// HOSTMESH_KILLS sets how often; without it three times.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	kills := 3
	if text := os.Getenv("HOSTMESH_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("HOSTMESH_KILLS=%s: %v", text, err)
		}
	}
	s := newSite(t, 2)
	s.start()
	b, other := s.boxes[1], s.boxes[0]
	l, atBoth := newAckedWrites(b), newAckedWrites(b)
	for range kills {
		l.write(8, func(name, doc string, h http.Header) error {
			acks, err := strconv.Atoi(h.Get("Hostmesh-Acks"))
			if err == nil && (acks < 1 || acks > 2 || h.Get("Hostmesh-Revision") == "") {
				err = fmt.Errorf("acknowledged by %d as revision %q", acks, h.Get("Hostmesh-Revision"))
			}
			if acks == 2 {
				atBoth.note(name, doc)
			}
			return err
		}, func() {
			l.atLeast(l.len() + 20 + rand.IntN(200))
			b.kill()
		})
		atBoth.check(other)
		b.start()
		l.check(b)
		s.allAlive()
	}
	s.equal(s.boxes...)
	l.check(other)
	if atBoth.len() == 0 {
		t.Error("no write was ever said to be held by two")
	}
	t.Logf("%d acknowledged writes are there after %d kills; two were said to hold %d of them", l.len(), kills, atBoth.len())
}

// TestAcksOfAMesh: ?acks=N is answered when so many boxes hold the write; where they cannot, it is 504 in bounded time, the
// write stands, and it reaches who was away.
func TestAcksOfAMesh(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	first, third := s.boxes[0], s.boxes[2]
	ask := func(value, acks string, want int) {
		t.Helper()
		h, err := first.putAnswer("hosts/asked", value, "?acks="+acks)
		if err != nil {
			t.Fatalf("acks=%s: %v", acks, err)
		}
		if got, err := strconv.Atoi(h.Get("Hostmesh-Acks")); err != nil || got < want {
			t.Errorf("acks=%s is answered with %q", acks, h.Get("Hostmesh-Acks"))
		}
	}
	ask("Owner: three\n", "3", 3)
	for _, b := range s.boxes {
		if got, err := b.get("hosts/asked"); err != nil || got != "Owner: three" {
			t.Errorf("%s was counted and has %q, %v", b.name, got, err)
		}
	}
	third.kill()
	ask("Owner: two\n", "2", 2)
	// As long as it counts as alive, and later when it does not.
	for i, sees := range []func(){func() {}, func() { first.sees(third, "failed") }} {
		sees()
		value := fmt.Sprintf("Owner: missed-%d", i)
		_, err := first.putAnswer("hosts/asked", value+"\n", "?acks=3")
		var r *refusal
		if !errors.As(err, &r) || r.status != http.StatusGatewayTimeout || !strings.HasPrefix(r.header.Get("CallTrace"), "5040: ") ||
			!strings.Contains(r.header.Get("CallTrace"), "the write stands") || r.header.Get("Hostmesh-Acks") != "2" {
			t.Errorf("acks=3 with one dead: %v, %v", err, r)
		}
		if got, err := first.get("hosts/asked"); err != nil || got != value {
			t.Errorf("after a 504 the write does not stand: %q, %v", got, err)
		}
	}
	third.start()
	s.equal(s.boxes...)
	if got, err := third.get("hosts/asked"); err != nil || got != "Owner: missed-1" {
		t.Errorf("the one that was away has %q, %v", got, err)
	}
	ask("Owner: again\n", "3", 3)
}
