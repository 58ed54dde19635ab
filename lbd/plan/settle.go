package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// mayLeave is the share of a pool that one change of HostDB takes out at most, in percent.
const mayLeave = 30

// seat is what a backend is told apart by: a host that comes back with another address is another backend.
type seat struct {
	host string
	addr netip.Addr
}

func seatOf(b *Backend) seat { return seat{b.Host, b.Addr} }

// sight is what is known of a backend at the moment.
type sight struct {
	verdict Verdict
	bad     Cause // Machine or Silent
	why     string
	drained bool
	reason  string // of that
}

// settling is one service being planned.
type settling struct {
	now   time.Time
	last  map[seat]*Backend // of the last plan
	fresh bool              // nothing was in the pool
	see   func(seat) sight
	drain time.Duration

	problem func(name ProblemName, format string, args ...any)
}

// settle is the backends of a service, sorted: wanted are those that HostDB wants in, sorted; why says of one that it does not want
// (any more) what became of it. Force lets all go at once.
func (s *settling) settle(wanted []seat, why func(seat) (Cause, string), force bool) (backends []Backend, failOpen bool) {
	var pool, lost []seat
	isWanted := make(map[seat]bool, len(wanted))
	for _, k := range wanted {
		isWanted[k] = true
	}
	for k, b := range s.last {
		if b.pooled() {
			pool = append(pool, k)
			if !isWanted[k] {
				lost = append(lost, k)
			}
		}
	}
	s.fresh = len(pool) == 0
	sortSeats(lost)

	held := s.hold(wanted, pool, lost, force)
	members := slices.Clone(wanted)
	if held {
		members = append(members, lost...)
	}
	drained, kept := s.drains(members)

	for _, k := range members {
		b := Backend{Host: k.host, Addr: k.addr, Weight: 1}
		if drained[k] {
			s.leave(&b, Drained, s.drainedWhy(k))
			backends = append(backends, b)
			continue
		}
		b.State, b.Cause, b.Why = s.observe(k)
		note := ""
		switch {
		case kept[k]:
			note = s.drainedWhy(k) + ", but it is the last"
		case !isWanted[k]:
			_, reason := why(k)
			note = reason + ", but it is held"
		}
		if note != "" {
			b.Held = true
			b.Why = join(note, b.Why)
		}
		backends = append(backends, b)
	}
	failOpen = s.open(backends)
	for k := range s.last {
		if isWanted[k] || held && slices.Contains(lost, k) {
			continue
		}
		b := Backend{Host: k.host, Addr: k.addr, Weight: 1}
		cause, reason := why(k)
		s.leave(&b, cause, reason)
		if b.State == Draining || cause == Maintenance {
			backends = append(backends, b)
		}
	}
	slices.SortFunc(backends, func(a, b Backend) int { return compareSeats(seatOf(&a), seatOf(&b)) })
	return backends, failOpen
}

// hold reports whether a change of HostDB takes out too much, so that all of lost stays.
func (s *settling) hold(wanted, pool, lost []seat, force bool) bool {
	if len(lost) == 0 {
		return false
	}
	inPool := make(map[seat]bool, len(pool))
	for _, k := range pool {
		inPool[k] = true
	}
	newcomers, rest, restWorks := 0, 0, false
	for _, k := range wanted {
		see := s.see(k)
		state, _, _ := s.judge(k, see)
		if !inPool[k] {
			if see.drained || see.verdict.Judgement != Up || state != In {
				continue
			}
			newcomers++
		}
		rest++
		restWorks = restWorks || state == In && !see.drained
	}
	if rest == 0 {
		s.problem(LastHeld, "it would have no backend: %s kept. Put members back, or take the section LB out to end the service", theyAre(len(lost)))
		return true
	}
	if force {
		return false
	}
	lostWorks := slices.ContainsFunc(lost, func(k seat) bool { state, _, _ := s.observe(k); return state == In })
	if lostWorks && !restWorks {
		s.problem(LastHeld, "no other backend works than what a change of HostDB takes out (%s): %s kept until another does, or LB/Force has a new text", names(lost), theyAre(len(lost)))
		return true
	}
	may := max(1, len(pool)*mayLeave/100)
	if len(lost)-newcomers <= may {
		return false
	}
	s.problem(ShrinkHeld, "a change of HostDB takes out %d of %s at once (%s), and %d may leave: all are kept. Give LB/Force a new text to let them go, put some back, or drain them one by one (hostmesh lb drain)",
		len(lost), plural(len(pool), "backend"), names(lost), may)
	return true
}

// drains are the members that a person takes out, and those that stay although one does, because they are the last.
func (s *settling) drains(members []seat) (drained, kept map[seat]bool) {
	drained, kept = map[seat]bool{}, map[seat]bool{}
	for _, k := range members {
		if s.see(k).drained {
			drained[k] = true
		}
	}
	if len(members) == 0 || len(drained) < len(members) {
		return drained, kept
	}
	for _, k := range members {
		if b := s.last[k]; b != nil && b.pooled() {
			kept[k] = true
			delete(drained, k)
		}
	}
	if len(kept) == 0 {
		drained, kept = kept, drained
	}
	s.problem(LastHeld, "every backend is drained: %s in, as the last. Enable another first (hostmesh lb enable)", stays(len(kept)))
	return drained, kept
}

func (s *settling) drainedWhy(k seat) string {
	if r := s.see(k).reason; r != "" {
		return "drained: " + r
	}
	return "drained"
}

// observe is the state of a backend that is wanted in.
func (s *settling) observe(k seat) (State, Cause, string) { return s.judge(k, s.see(k)) }

func (s *settling) judge(k seat, see sight) (State, Cause, string) {
	old := s.last[k]
	switch {
	case see.bad != "":
		return Out, see.bad, see.why
	case see.verdict.Judgement == Down:
		return Out, Failing, see.verdict.Why
	case see.verdict.Judgement == Up:
		return In, "", ""
	case old != nil && (old.Cause == Failing || old.Cause == Unchecked && !s.fresh):
		if old.Cause == Failing {
			return Out, Failing, "it failed when it was checked last"
		}
		return Out, Unchecked, "it was not checked yet"
	case old == nil && !s.fresh, old != nil && old.Cause.leaving() && old.State == Out && !s.fresh:
		return Out, Unchecked, "it was not checked yet"
	}
	return In, "", ""
}

// openNote ends the Why of a backend that is in because none works.
const openNote = "; in all the same, as no backend works"

// open puts all in that nobody wants out, if none of them is.
func (s *settling) open(backends []Backend) bool {
	n := 0
	for i := range backends {
		b := &backends[i]
		if b.State == In {
			return false
		}
		if !b.Cause.leaving() {
			n++
		}
	}
	if n == 0 {
		return false
	}
	for i := range backends {
		if b := &backends[i]; !b.Cause.leaving() {
			b.State = In
			b.Why += openNote
		}
	}
	s.problem(AllFail, "no backend works, so all %d are in: look at why in hostmesh lb show", n)
	return true
}

// leave makes b one that somebody wants out: it drains if it served, for as long as it may.
func (s *settling) leave(b *Backend, cause Cause, why string) {
	b.State, b.Cause, b.Why = Out, cause, why
	old := s.last[seatOf(b)]
	if old == nil {
		return
	}
	switch {
	case old.State == In:
		b.Since = s.now
	case old.State == Draining:
		b.Since = old.Since
	default:
		return
	}
	if s.now.Before(b.Since.Add(s.drain)) {
		b.State = Draining
	} else {
		b.Since = time.Time{}
	}
}

func compareSeats(a, b seat) int {
	if c := strings.Compare(a.host, b.host); c != 0 {
		return c
	}
	return a.addr.Compare(b.addr)
}

func sortSeats(list []seat) { slices.SortFunc(list, compareSeats) }

// names lists some of them.
func names(list []seat) string {
	const few = 5
	var b strings.Builder
	for i, k := range list {
		if i == few {
			fmt.Fprintf(&b, " and %d more", len(list)-few)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(k.host)
	}
	return b.String()
}

func theyAre(n int) string {
	if n == 1 {
		return "it is"
	}
	return fmt.Sprintf("all %d are", n)
}

func stays(n int) string {
	if n == 1 {
		return "one stays"
	}
	return fmt.Sprintf("%d stay", n)
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}
