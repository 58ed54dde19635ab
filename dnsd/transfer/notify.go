package transfer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
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

const (
	exchangesAtOnce = 16 // with secondaries
	exchangesEach   = 4  // with one address: those that are silent do not take the places of others
)

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
	tried   time.Time // when the last one began
	err     string    // of the last exchange; empty when it was good
}

// server is what is known of an address, whatever zones it has.
type server struct {
	under  int       // exchanges under way
	silent int       // times in a row that it did not answer
	failed time.Time // when it did not answer last
	next   time.Time // nothing before that, while it is silent
	err    string    // why; empty unless it is silent
}

// zoneError is wrapped by errors of an exchange that a server answered: they say nothing of its other zones.
type zoneError struct{ error }

func (e zoneError) Unwrap() error { return e.error }

// answered reports whether a server answered, be it that it wants nothing of the zone.
func answered(err error) bool {
	var ofZone zoneError
	var unreadable *dns.Error
	return err == nil || errors.As(err, &ofZone) || errors.As(err, &unreadable)
}

// took enters whether the server answered in an exchange that began at some time. Exchanges that are under way at the same
// time fail together, which counts once.
func (v *server) took(ok bool, err error, began, now time.Time, t NotifyTimes) {
	if ok {
		v.silent, v.err, v.next = 0, "", time.Time{}
		return
	}
	v.err = err.Error()
	if v.silent > 0 && !began.After(v.failed) {
		return
	}
	v.silent++
	v.failed, v.next = now, now.Add(t.backOff(v.silent))
}

// room reports whether one more exchange may begin: one at a time with who is silent.
func (v *server) room() bool { return v.under < exchangesEach && (v.silent == 0 || v.under == 0) }

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
		s.err, s.next = err.Error(), now // when it is silent, its server's time decides
		if answered(err) {
			s.tries++
			s.next = now.Add(t.backOff(s.tries))
		}
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
	votes  *election

	mu      sync.Mutex // guards the fields below and what they point at
	all     map[target]*secondary
	servers map[netip.AddrPort]*server
	origins []string // of all
	under   int      // exchanges under way
	each    map[netip.Addr]int
}

func newNotifier(s *Service) *notifier {
	n := &notifier{
		times: s.cfg.Notify, view: s.cfg.View, log: s.log, count: s.metrics.notified,
		teller: &wire{keys: s.cfg.Keys, source: s.cfg.Source, timeout: s.cfg.Notify.Timeout},
		poke:   make(chan struct{}, 1), all: map[target]*secondary{}, servers: map[netip.AddrPort]*server{}, each: map[netip.Addr]int{},
	}
	n.votes = newElection(s.cfg.Peers, n.wake)
	return n
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
	n.origins = slices.Collect(maps.Keys(targets))
	servers := map[netip.AddrPort]*server{}
	for t := range n.all {
		if !seen[t] {
			delete(n.all, t)
			continue
		}
		if servers[t.addr] = n.servers[t.addr]; servers[t.addr] == nil {
			servers[t.addr] = &server{}
		}
	}
	n.servers = servers
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

// due is something to do.
type due struct {
	*secondary
	act action
	at  time.Time
}

// step begins what is due, what waits longest first, and returns after which time to look again: a member may die meanwhile.
func (n *notifier) step(ctx context.Context, under *sync.WaitGroup) time.Duration {
	mine := n.elect(ctx, under)
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	wait := time.Second
	var list []due
	for _, s := range n.all {
		if of, known := mine[s.origin]; known { // else the zone came just now, which wakes us
			s.choose(of, now)
		}
		act, at := s.plan(n.times)
		if act == rest {
			continue
		}
		if v := n.servers[s.addr]; v.silent > 0 && at.Before(v.next) {
			at = v.next // be there new content or not
		}
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		list = append(list, due{s, act, at})
	}
	slices.SortFunc(list, func(a, b due) int {
		return cmp.Or(a.at.Compare(b.at), a.tried.Compare(b.tried), strings.Compare(a.origin, b.origin), a.addr.Compare(b.addr))
	})
	for _, d := range list {
		s, v, ip := d.secondary, n.servers[d.addr], d.addr.Addr().Unmap()
		if n.under >= exchangesAtOnce {
			break // one that ends wakes us
		}
		if n.each[ip] >= exchangesEach || !v.room() {
			continue
		}
		n.under++
		n.each[ip]++
		v.under++
		s.busy, s.tried = true, now
		key, soa := s.key, s.want
		under.Go(func() {
			n.exchange(ctx, s, v, d.act, key, soa)
			n.wake()
		})
	}
	return wait
}

// elect is for which zones this node tells the secondaries.
func (n *notifier) elect(ctx context.Context, under *sync.WaitGroup) map[string]bool {
	var view mesh.View
	if n.view != nil {
		view = n.view()
	}
	n.mu.Lock()
	origins := n.origins // follow replaces it, and does not change it
	n.mu.Unlock()
	self := view.Self().ID
	n.votes.begin(ctx, under, view)
	mine := make(map[string]bool, len(origins))
	for _, origin := range origins {
		mine[origin] = n.votes.mine(ctx, under, origin, self)
	}
	return mine
}

// choose takes in whether this node is the one that tells a secondary. One that comes to be it begins anew: it cannot know
// how far the other came.
func (s *secondary) choose(mine bool, now time.Time) {
	if mine && !s.mine {
		s.told, s.known, s.tries, s.next, s.err, s.changed = false, false, 0, now, "", now
	}
	s.mine = mine
}

func (n *notifier) exchange(ctx context.Context, s *secondary, v *server, act action, key string, soa *dns.SOA) {
	var serial uint32
	var err error
	began := time.Now()
	if act == tell {
		err = n.teller.notify(ctx, s.target, key, soa)
	} else {
		serial, err = n.teller.serial(ctx, s.target, key)
	}
	ended := ctx.Err() != nil
	if !ended {
		n.count(act, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ip := s.addr.Addr().Unmap()
	n.under--
	v.under--
	if n.each[ip]--; n.each[ip] == 0 {
		delete(n.each, ip)
	}
	if ended {
		return
	}
	before := s.err
	now := time.Now()
	v.took(answered(err), err, began, now, n.times)
	s.took(act, soa.Serial, serial, err, now, n.times)
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
		if one.Error == "" && !s.told {
			one.Error = n.servers[s.addr].err // not tried, because another zone's was in vain
		}
		switch {
		case s.current():
			one.State = SecondaryCurrent
		case one.Error != "" && !s.told:
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
