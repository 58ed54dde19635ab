package transfer

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"hostmesh/dnsd/zone"
	"hostmesh/mesh"
)

// NotifyTimes are the times of telling secondaries of changes.
type NotifyTimes struct {
	// Timeout is how long an answer may take.
	Timeout time.Duration
	// Spacing is the least time between two NOTIFY about one zone to one secondary.
	Spacing time.Duration
	// Retry is the time after the first failure; it doubles up to RetryMost.
	Retry, RetryMost time.Duration
	// Check is how often a secondary that has everything is asked whether it still has.
	Check time.Duration
	// Lag is how long a secondary may be behind before that is a problem, and it is told again.
	Lag time.Duration
}

// DefaultNotifyTimes returns the defaults.
func DefaultNotifyTimes() NotifyTimes {
	return NotifyTimes{
		Timeout:   2 * time.Second,
		Spacing:   500 * time.Millisecond, // a burst of changes is two transfers a second
		Retry:     time.Second,
		RetryMost: time.Minute, // RFC 1996 section 3.6 gives up after 5 tries; a secondary that comes back wants to know
		Check:     5 * time.Minute,
		Lag:       30 * time.Second,
	}
}

const exchangesAtOnce = 16 // with secondaries

// target is one secondary of one zone.
type target struct {
	origin string
	addr   netip.AddrPort
}

// secondary is what is known of a target.
type secondary struct {
	target
	key  string   // TSIG key, canonical; empty for none
	want *dns.SOA // what is served here

	changed time.Time // when want came up
	mine    bool      // this node tells it
	told    bool      // it acknowledged a NOTIFY about want
	last    time.Time // NOTIFY to it
	has     uint32    // serial that it answered with
	known   bool      // has is known
	tries   int       // in a row that came to nothing
	next    time.Time // nothing before that
	busy    bool      // an exchange is under way
	err     string    // of the last exchange; empty when it was good
}

// Actions that a secondary may need.
type action int

const (
	rest action = iota
	tell        // NOTIFY
	look        // ask for its SOA
)

// current reports whether the secondary has what we serve, or something newer.
func (s *secondary) current() bool { return s.known && !newer(s.want.Serial, s.has) }

// plan says what a secondary needs next, and when.
func (s *secondary) plan(t NotifyTimes) (act action, at time.Time) {
	switch {
	case !s.mine || s.busy:
		return rest, time.Time{}
	case !s.told:
		act = tell
		if at = s.last.Add(t.Spacing); at.Before(s.next) {
			at = s.next
		}
		return act, at
	case !s.current() && s.next.Sub(s.last) >= t.Lag:
		return tell, s.next
	}
	return look, s.next
}

// backOff is when to try again after so many failures.
func (t NotifyTimes) backOff(tries int) time.Duration {
	d := t.Retry
	for range min(tries-1, 16) {
		d = min(2*d, t.RetryMost)
	}
	return min(d, t.RetryMost)
}

// took enters what came of an action.
func (s *secondary) took(act action, about, serial uint32, err error, now time.Time, t NotifyTimes) {
	s.busy, s.err = false, ""
	if act == tell {
		s.last = now
	}
	if err != nil {
		s.tries++
		s.err, s.next = err.Error(), now.Add(t.backOff(s.tries))
		if act == look {
			s.known = false
		}
		return
	}
	switch {
	case act == tell:
		s.tries = 0
		if about == s.want.Serial {
			s.told = true
		}
		s.next = now.Add(t.Retry) // it fetches the zone now
	default:
		s.has, s.known = serial, true
		if s.current() {
			s.tries, s.next = 0, now.Add(t.Check)
		} else {
			s.tries++
			s.next = now.Add(t.backOff(s.tries))
		}
	}
}

// teller speaks with secondaries.
type teller interface {
	// notify sends a NOTIFY with the SOA and waits for its acknowledgement.
	notify(ctx context.Context, to target, key string, soa *dns.SOA) error
	// serial asks for the serial that a secondary serves.
	serial(ctx context.Context, to target, key string) (uint32, error)
}

// notifier tells secondaries of changes, for those zones that this node is chosen for.
type notifier struct {
	times  NotifyTimes
	view   func() mesh.View
	log    *slog.Logger
	teller teller
	count  func(act action, err error)
	poke   chan struct{} // one slot
	slots  chan struct{}

	mu  sync.Mutex // guards all and what it points at
	all map[target]*secondary
}

func newNotifier(s *Service) *notifier {
	return &notifier{
		times: s.cfg.Notify, view: s.cfg.View, log: s.log, count: s.metrics.notified,
		teller: &wire{keys: s.cfg.Keys, source: s.cfg.Source, timeout: s.cfg.Notify.Timeout},
		poke:   make(chan struct{}, 1), slots: make(chan struct{}, exchangesAtOnce), all: map[target]*secondary{},
	}
}

// follow takes in what is served and whom to tell.
func (n *notifier) follow(z *zone.Zones, targets map[string][]netip.AddrPort, keys map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	seen := map[target]bool{}
	for origin, addrs := range targets {
		soa := z.SOA(origin)
		for _, addr := range addrs {
			t := target{origin, addr}
			seen[t] = true
			s := n.all[t]
			if s == nil {
				s = &secondary{target: t, want: soa, changed: now}
				n.all[t] = s
			}
			if s.key != keys[origin] {
				s.key, s.told, s.tries, s.next = keys[origin], false, 0, now
			}
			if s.want.Serial != soa.Serial {
				s.told, s.changed, s.tries, s.next = false, now, 0, now
			}
			s.want = soa
		}
	}
	for t := range n.all {
		if !seen[t] {
			delete(n.all, t)
		}
	}
	n.wake()
}

func (n *notifier) wake() {
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// run tells secondaries until ctx ends, and waits for exchanges under way.
func (n *notifier) run(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.poke:
		case <-timer.C:
		}
		timer.Reset(n.step(ctx, &under))
	}
}

// step begins what is due, and returns after which time to look again: a member may die meanwhile.
func (n *notifier) step(ctx context.Context, under *sync.WaitGroup) time.Duration {
	var view mesh.View
	if n.view != nil {
		view = n.view()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	wait := time.Second
	for _, s := range n.all {
		s.choose(chosen(s.origin, view), now)
		act, at := s.plan(n.times)
		if act == rest {
			continue
		}
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		select {
		case n.slots <- struct{}{}:
		default:
			continue // one that ends wakes us
		}
		s.busy = true
		key, soa := s.key, s.want
		under.Go(func() {
			n.exchange(ctx, s, act, key, soa)
			<-n.slots
			n.wake()
		})
	}
	return wait
}

// choose takes in whether this node is the one that tells a secondary. One that comes to be it begins anew: it cannot know
// how far the other came.
func (s *secondary) choose(mine bool, now time.Time) {
	if mine && !s.mine {
		s.told, s.known, s.tries, s.next, s.err, s.changed = false, false, 0, now, "", now
	}
	s.mine = mine
}

func (n *notifier) exchange(ctx context.Context, s *secondary, act action, key string, soa *dns.SOA) {
	var serial uint32
	var err error
	if act == tell {
		err = n.teller.notify(ctx, s.target, key, soa)
	} else {
		serial, err = n.teller.serial(ctx, s.target, key)
	}
	if ctx.Err() != nil {
		return
	}
	n.count(act, err)
	n.mu.Lock()
	defer n.mu.Unlock()
	before := s.err
	s.took(act, soa.Serial, serial, err, time.Now(), n.times)
	log := n.log.With(slog.String("zone", s.origin), slog.String("secondary", s.addr.String()), slog.Uint64("serial", uint64(soa.Serial)))
	switch {
	case err != nil && before == "" && act == tell:
		log.Warn("secondary does not acknowledge a change", slog.Any("err", err))
	case err != nil:
		log.Debug("secondary does not answer", slog.Any("err", err))
	case before != "":
		log.Info("secondary answers again")
	case act == tell:
		log.Debug("secondary was told of a change")
	}
}

// chosen reports whether this node tells the secondaries of a zone: of all live members the one with the highest hash of
// zone and id (rendezvous hashing), so that a member that comes or goes moves only its own zones.
func chosen(origin string, view mesh.View) bool {
	best, most := "", uint64(0)
	for m := range view.Alive() {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s\x00%s", m.ID, strings.ToLower(origin))
		if w := mix(h.Sum64()); best == "" || w > most || w == most && m.ID > best {
			best, most = m.ID, w
		}
	}
	return best == "" || best == view.Self().ID
}

// mix spreads the bits of a hash whose last bytes moved only its low ones (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// States of a Secondary.
const (
	SecondaryCurrent = "current" // it has what is served here, or something newer
	SecondaryBehind  = "behind"  // it has something older, or was told just now
	SecondarySilent  = "silent"  // it does not acknowledge that there is something newer
)

// Secondary is how a secondary of a zone stands, as the node sees it that tells it of changes.
type Secondary struct {
	Zone   string // origin
	Addr   netip.AddrPort
	State  string
	Serial uint32 // that is served here
	Has    uint32 // that it has, where Known
	Known  bool
	Since  time.Time // of Serial
	Error  string    // of the last exchange
}

// Secondaries are those that this node tells of changes, by zone and address.
func (s *Service) Secondaries() []Secondary { return s.notify.list() }

func (n *notifier) list() []Secondary {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Secondary
	for _, s := range n.all {
		if !s.mine {
			continue
		}
		one := Secondary{Zone: s.origin, Addr: s.addr, State: SecondaryBehind, Serial: s.want.Serial, Has: s.has, Known: s.known, Since: s.changed, Error: s.err}
		switch {
		case s.current():
			one.State = SecondaryCurrent
		case s.err != "" && !s.told:
			one.State = SecondarySilent
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Secondary) int { return cmp.Or(strings.Compare(a.Zone, b.Zone), a.Addr.Compare(b.Addr)) })
	return out
}

// Late reports whether a secondary has been without what is served here for longer than is usual.
func (s *Service) Late(x Secondary) bool {
	return x.State != SecondaryCurrent && time.Since(x.Since) >= s.cfg.Notify.Lag
}
