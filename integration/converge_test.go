package integration

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// lab makes a zone on a running site, with one host in it.
func (s *site) lab() {
	s.t.Helper()
	b := s.boxes[0]
	b.mustPut("hosts/web1.lab.test", "Network: {IP: 10.9.0.1}\n")
	b.mustPut("tags/lab", "DNS: {Zone: lab.test, TTL: 1, Reverse: [10.9.0.0/16]}\n")
	b.mustPut("tags/lab/members", "web1.lab.test\n")
	s.equal(s.running()...)
}

// TestWriteIsSeenEverywhere: what is PUT at one box is answered by HTTP and DNS at the others, also with one dead, and
// the one that comes back has it all.
func TestWriteIsSeenEverywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.start()
	s.lab()
	first, second, third := s.boxes[0], s.boxes[1], s.boxes[2]
	for i := range 3 {
		addr := fmt.Sprintf("10.9.1.%d", i)
		begin := time.Now()
		first.mustPut("hosts/web1.lab.test/Network/IP", addr)
		acked := time.Since(begin)
		dns, web := third.answers("web1.lab.test", addr)
		t.Logf("acknowledged after %s; at another box by HTTP %s later, by DNS (with the start of dig) %s later", acked, web, dns)
		if got := third.dig("-x", addr); got != "web1.lab.test." {
			t.Errorf("reverse of %s at %s: %q", addr, third.name, got)
		}
	}
	s.equal(s.boxes...)
	for _, b := range s.boxes {
		for i, of := range s.boxes {
			if got := b.dig(fmt.Sprintf("box%d.node.mesh.internal", i+1)); got != of.addr {
				t.Errorf("%s at %s: %q, want %s", of.name, b.name, got, of.addr)
			}
		}
	}

	second.kill()
	first.mustPut("hosts/at-first.lab.test", "Network: {IP: 10.9.2.1}\n")
	third.mustPut("hosts/at-third.lab.test", "Network: {IP: 10.9.2.3}\n")
	third.mustPut("tags/lab/members", "web1.lab.test\nat-first.lab.test\nat-third.lab.test\n")
	t.Logf("killed box is seen as failed after %s", first.sees(second, "failed"))
	first.answers("at-third.lab.test", "10.9.2.3")
	third.answers("at-first.lab.test", "10.9.2.1")

	t.Logf("it serves again after %s", second.start())
	took, _ := s.equal(s.boxes...)
	t.Logf("and is equal to the others %s later", took)
	second.answers("at-third.lab.test", "10.9.2.3")
}

// ledger is what clients were told is written.
type ledger struct {
	mu       sync.Mutex
	acked    map[string]string // id to value: each id is written once
	refused  int
	counters map[int][2]int // of each client: the last count that was acknowledged, and the last that was sent
}

// client writes until stop is closed: an id of its own each time, and a counter that only it writes. It keeps to one
// box, and goes to another when that one does not acknowledge.
func (l *ledger) client(s *site, me int, stop <-chan struct{}) {
	at := me
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		b := s.boxes[at%len(s.boxes)]
		id, value := fmt.Sprintf("hosts/ledger-%d-%d", me, n), fmt.Sprintf("Owner: client %d at %s, %d\n", me, b.name, n)
		err := b.put(id, value)
		l.mu.Lock()
		if err == nil {
			l.acked[id] = value[:len(value)-1]
		} else {
			l.refused++
		}
		l.mu.Unlock()
		if err == nil {
			err = b.put(fmt.Sprintf("hosts/counter-%d", me), fmt.Sprintf("Count: %d\n", n))
			l.mu.Lock()
			c := l.counters[me]
			c[1] = n
			if err == nil {
				c[0] = n
			}
			l.counters[me] = c
			l.mu.Unlock()
		}
		if err != nil {
			at++
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// TestNoAcknowledgedWriteIsLost kills agents with -9 under writes from several clients, and looks for each write that
// was acknowledged on every box.
func TestNoAcknowledgedWriteIsLost(t *testing.T) {
	t.Parallel()
	const clients, rounds = 4, 5
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, 3)
	s.start()

	l := &ledger{acked: map[string]string{}, counters: map[int][2]int{}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for me := range clients {
		wg.Go(func() { l.client(s, me, stop) })
	}
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	for range rounds {
		time.Sleep(time.Duration(100+rng.IntN(400)) * time.Millisecond)
		victims := rng.Perm(3)[:1+rng.IntN(2)] // one or two: somebody is always there to write to
		for _, v := range victims {
			s.boxes[v].kill()
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		for _, v := range victims {
			s.boxes[v].start()
		}
	}
	time.Sleep(300 * time.Millisecond)
	end()
	for _, b := range s.boxes {
		b.kill()
	}
	for _, b := range s.boxes {
		b.start()
	}

	took, _ := s.equal(s.boxes...)
	t.Logf("%d writes acknowledged, %d not; equal %s after all were killed and started again", len(l.acked), l.refused, took)
	if len(l.acked) < 50 {
		t.Errorf("only %d writes: this tests nothing", len(l.acked))
	}
	for _, b := range s.boxes {
		missing := 0
		for id, value := range l.acked {
			if got, err := b.get(id); err != nil || got != value {
				if missing++; missing <= 5 {
					t.Errorf("%s: %s was acknowledged as %q: %q, %v", b.name, id, value, got, err)
				}
			}
		}
		if missing > 5 {
			t.Errorf("%s: %d acknowledged writes are not there", b.name, missing)
		}
		for me, c := range l.counters {
			var got int
			text, err := b.get(fmt.Sprintf("hosts/counter-%d/Count", me))
			if err == nil {
				_, err = fmt.Sscan(text, &got)
			}
			if err != nil || got < c[0] || got > c[1] {
				t.Errorf("%s: counter %d is %d (%v), acknowledged %d, sent %d", b.name, me, got, err, c[0], c[1])
			}
		}
	}
}
