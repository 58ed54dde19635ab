package vip

import (
	"bytes"
	"net"
	"time"
)

// times are what safety and speed of a claim rest on.
type times struct {
	life    time.Duration // of an address, in whole seconds
	trial   time.Duration // its life when it is new
	late    time.Duration // how much later than at its life's end the kernel removes an address
	gone    time.Duration // after sending a renewal: by then an address that rests on it must be gone by itself
	left    time.Duration // the longest life of an address that is left
	resumed time.Duration // how much later than it was decided a refresh may be done without being looked at again

	record  time.Duration // how long the claim file is waited for
	probes  int           // how many are sent
	probe   time.Duration // between two probes, and after the last
	former  time.Duration // after the lease became valid: how long an unknown answer may be that of a former holder
	refused time.Duration // how long a stranger is left alone
	ask     time.Duration // between two probes for an address that is kept

	announce []time.Duration // after the first announcement, from the one before
	again    time.Duration   // between two later ones
	defend   time.Duration   // between two answers to somebody who announces our address
	healed   time.Duration   // without such a one: then it is over

	retry time.Duration // after an error of the kernel or the network
	look  time.Duration // the longest rest: whatever was missed is seen then
}

func defaultTimes() times {
	return times{
		life:    2 * time.Second,        // at the design's 0.5 s between renewals, three may be lost
		trial:   time.Second,            // the shortest that there is: an address added too late is soon gone
		late:    300 * time.Millisecond, // Linux looks at lifetimes at most a quarter of a second late, and rounds a little
		gone:    2600 * time.Millisecond,
		left:    15 * time.Second,       // what restarts takes less, and the next holder waits for it
		resumed: 400 * time.Millisecond, // gone + resumed = 3 s, when the leader may grant to another

		record:  250 * time.Millisecond, // a disk that hangs holds up no address: the kernel's lifetime does not need the file
		probes:  3,                      // RFC 5227 has three, over seconds; those who wait for a service have none
		probe:   25 * time.Millisecond,  // a neighbour answers within one; its kernel is not busy with anything else
		former:  2600 * time.Millisecond,
		refused: 5 * time.Second,
		ask:     time.Second,

		announce: []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond, time.Second}, // frames get lost
		again:    10 * time.Second,                                                                                     // switches and neighbours forget
		defend:   500 * time.Millisecond,                                                                               // two who both defend do not fill the wire
		healed:   2 * time.Second,

		retry: 50 * time.Millisecond,
		look:  250 * time.Millisecond,
	}
}

// fresh is how old a renewal may be for an address to rest on it for a life.
func (t times) fresh(life time.Duration) time.Duration { return t.gone - t.late - life }

// reading is what a lease says at one moment.
type reading struct {
	valid     bool
	ago, left time.Duration
}

// want is what a claim's owner wants.
type want uint8

const (
	toHold want = iota
	toLeave
	toHandOver
	toEnd
)

// Phase is how far a claim is.
type Phase string

// The phases of a claim.
const (
	Waiting  Phase = "waiting"      // for a valid lease, a younger renewal, or the interface
	Probing  Phase = "probing"      // it asks whether anybody has the address
	Refused  Phase = "refused"      // somebody else has it
	Held     Phase = "held"         // it is here
	Kept     Phase = "kept"         // it is here, but the lease is over
	Leaving  Phase = "handing over" // it is here until the next holder has it
	Finished Phase = "finished"     // it is not here, and the claim is over
)

// memory is all that a claim remembers. Times are of the Boot clock.
type memory struct {
	want  want
	keep  bool
	began time.Duration // since when the lease is valid

	recorded bool          // the claim file has it, or cannot
	present  bool          // it was added, and nothing says that it is gone
	doubt    bool          // it was added or refreshed, and the lease was not read since
	late     bool          // it was given by the kernel after the lease was over, or nearly
	life     time.Duration // what it was last given
	rests    time.Duration // when the renewal was sent on which that rests
	touched  time.Duration // when it was last added or refreshed
	await    time.Duration // after the lease became valid: how long an unknown answer may be that of a former holder, beside times.former
	left     bool          // it was given its last life, and is nobody's business here any more
	unleft   bool          // the kernel would not give it that: it is removed
	failed   time.Duration // when the kernel last said no; 0 = it did not

	sent     int // probes, since the address was last heard of
	probed   time.Duration
	silent   bool // so many that nobody has it
	answered net.HardwareAddr
	heardAt  time.Duration
	former   bool             // who answered is a former holder that is about to go
	leaver   net.HardwareAddr // who asked for it last, though it may have it
	leaverAt time.Duration
	asked    int // how often somebody asked for what is handed over
	signed   int // up to which of these it was told that this is a former holder

	announced int // since the address was added or the interface came back
	said      time.Duration
	conflict  net.HardwareAddr // who announced our address; nil = nobody
	seen      time.Duration    // when, last
	defended  time.Duration    // when we last said that it is ours because of it

	phase Phase
	why   string
}

// act is what a claim does next.
type act uint8

const (
	rest act = iota
	probe
	add
	refresh // to life
	shorten // to trial
	remove
	announce
	bequeath // a last life, in which the next process may take it over
	finish
)

func (a act) String() string {
	return [...]string{"rest", "probe", "add", "refresh", "shorten", "remove", "announce", "leave", "finish"}[a]
}

// next decides what a claim does now, or how long it rests if nothing happens. r must have been read after the last act was done; now
// before r. It changes nothing but the memory that it returns, which tells what it found out.
func next(t times, m memory, r reading, l Link, now time.Duration) (memory, act, time.Duration) {
	doubt := m.doubt
	m.doubt = false
	age := r.ago
	if m.want == toHandOver {
		age = now - m.rests // the lease may have been given up since
	}
	tooLong := doubt && age+m.life+t.late > t.gone+t.resumed
	m.late = doubt && (!r.valid && m.want == toHold || tooLong)
	switch {
	case m.left:
		m.phase, m.why = Finished, "it is left to the next process"
		return m, finish, 0
	case m.want == toLeave && m.present && r.valid && m.conflict == nil && !m.unleft && !tooLong:
		return m, bequeath, 0
	case m.want == toLeave:
		return m.end(t, now)
	case m.want == toEnd, m.want == toHandOver && (!m.present || tooLong):
		return m.end(t, now)
	case m.want == toHandOver:
		return m.leave(t, now)
	case !r.valid && m.present && m.keep && !doubt && m.conflict == nil:
		return m.goOn(t, now)
	case !r.valid:
		m.phase, m.why = Waiting, "the lease is not valid"
		if m.conflict != nil {
			m.why += "; " + m.conflict.String() + " has the address"
		}
		if m.present {
			return m.drop(t, now)
		}
		m.began, m.silent, m.sent, m.former, m.answered = now, false, 0, false, nil
		return m, rest, t.look
	case l.Index == 0:
		m = m.lost() // it went with the interface
		m.phase, m.why = Waiting, "the interface does not exist"
		return m, rest, t.look
	case m.present:
		return m.hold(t, r, l, now, tooLong)
	}
	return m.take(t, r, l, now)
}

// drop removes the address, again and again.
func (m memory) drop(t times, now time.Duration) (memory, act, time.Duration) {
	if m.failed != 0 && now-m.failed < t.retry {
		return m, rest, m.failed + t.retry - now
	}
	return m, remove, 0
}

func (m memory) end(t times, now time.Duration) (memory, act, time.Duration) {
	if m.present {
		m.phase = Leaving
		return m.drop(t, now)
	}
	m.phase = Finished
	return m, finish, 0
}

// leave waits for the next holder. Nothing is refreshed: at the latest the kernel ends it.
func (m memory) leave(t times, now time.Duration) (memory, act, time.Duration) {
	over := m.touched + m.life + t.late - now
	switch {
	case m.conflict != nil:
		m.why = m.conflict.String() + " has it now"
	case over <= 0:
		m.why = "nobody took it"
	case m.asked > m.signed:
		m.phase, m.why = Leaving, ""
		return m, probe, 0
	default:
		m.phase, m.why = Leaving, ""
		return m, rest, min(over, t.look)
	}
	return m.end(t, now)
}

// goOn keeps an address whose lease is over, as long as nobody else has it.
func (m memory) goOn(t times, now time.Duration) (memory, act, time.Duration) {
	m.phase, m.why = Kept, "the lease is over: it is kept until somebody else has it"
	switch pause := t.life / 4; {
	case now-m.touched >= pause && now-m.failed >= t.retry:
		return m, refresh, 0
	case now-m.probed >= t.ask:
		return m, probe, 0
	default:
		return m, rest, min(t.look, max(m.touched+pause, m.failed+t.retry)-now, m.probed+t.ask-now)
	}
}

// hold keeps what is here.
func (m memory) hold(t times, r reading, l Link, now time.Duration, tooLong bool) (memory, act, time.Duration) {
	m.phase, m.why = Held, ""
	if tooLong {
		// The kernel may have begun its life just now, long after that was decided: should this process end now, it would be here too long.
		if m.life > t.trial && m.failed == 0 && r.ago+t.trial+t.late <= t.gone+t.resumed {
			return m, shorten, 0
		}
		m.why = "the kernel took too long"
		return m, remove, 0
	}
	sent := now - r.ago
	young := sent > m.rests+time.Millisecond || m.life < t.life
	if young && r.ago <= t.fresh(t.life) && (m.failed == 0 || now-m.failed >= t.retry) {
		return m, refresh, 0
	}
	wait := min(t.look, r.left)
	if m.failed != 0 {
		wait = min(wait, t.retry)
	}
	if m.conflict != nil && now-m.seen >= t.healed {
		m.conflict, m.announced = nil, 0 // whoever believed the other one must hear it once more
	}
	if !l.Running {
		m.announced, m.why = 0, "the interface has no carrier"
		return m, rest, wait
	}
	due := m.said
	switch {
	case m.announced == 0:
	case m.announced <= len(t.announce):
		due += t.announce[m.announced-1]
	default:
		due += t.again
	}
	if m.conflict != nil {
		m.why = m.conflict.String() + " announces it as well: it is told that it is ours"
		if m.seen > m.defended {
			due = min(due, m.defended+t.defend)
		}
		wait = min(wait, m.seen+t.healed-now)
	}
	if m.announced == 0 || now >= due {
		return m, announce, 0
	}
	return m, rest, min(wait, due-now)
}

// take brings an address here that is not.
func (m memory) take(t times, r reading, l Link, now time.Duration) (memory, act, time.Duration) {
	m.conflict = nil
	stranger := m.answered != nil && !m.former
	switch {
	case stranger && m.phase == Refused && now-m.heardAt < t.refused:
		return m, rest, min(t.look, m.heardAt+t.refused-now)
	case stranger && m.phase != Refused && now-m.began >= max(t.former, m.await):
		m.phase, m.why = Refused, m.answered.String()+" answers for it"
		return m, rest, t.look
	case stranger && m.phase != Refused && now-m.heardAt < t.retry:
		m.phase, m.why = Probing, m.answered.String()+" answers for it: it may be a former holder that is about to go"
		return m, rest, m.heardAt + t.retry - now
	case stranger:
		m.answered = nil
	}
	switch {
	case !l.Running:
		m.phase, m.why, m.sent, m.silent = Waiting, "the interface has no carrier", 0, false
		return m, rest, t.look
	case m.failed != 0 && now-m.failed < t.retry:
		return m, rest, m.failed + t.retry - now
	case !m.silent && !m.former:
		if m.phase != Refused {
			m.phase, m.why = Probing, ""
		}
		switch due := m.probed + t.probe; {
		case m.sent > 0 && now < due:
			return m, rest, due - now
		case m.sent < t.probes:
			return m, probe, 0
		}
		m.silent, m.probed = true, now
	case m.silent && now-m.probed > 4*t.look:
		m.silent, m.sent = false, 0 // it is long ago
		return m, rest, 0
	}
	m.phase, m.why = Probing, ""
	switch {
	case !m.recorded && now-m.began < t.record:
		m.why = "the claim is being written down"
		return m, rest, m.began + t.record - now
	case r.ago > t.fresh(t.trial):
		m.phase, m.why = Waiting, "the last renewal of the lease is too old"
		return m, rest, t.look
	}
	return m, add, 0
}

// did is what a claim remembers of an act that was decided at now on r, and ended at then.
func (m memory) did(t times, a act, err error, r reading, now, then time.Duration) memory {
	switch a {
	case probe:
		m.probed, m.signed = then, m.asked
		switch {
		case err == nil:
			m.sent++
		case !m.present:
			m.failed = then // it is not asked again at once; what is here is not concerned
		}
	case add, refresh, shorten:
		m.doubt = r.valid // what is kept is not in doubt: the lease is over
		if err != nil {
			m.failed = then
			return m
		}
		m.failed, m.touched, m.rests = 0, then, now-r.ago
		m.life = t.trial
		if a == refresh {
			m.life = t.life
		}
		if a == add {
			m.present, m.announced, m.silent, m.sent, m.former, m.answered = true, 0, false, 0, false, nil
			m.conflict, m.defended = nil, 0
		}
	case bequeath:
		m.left, m.unleft = err == nil, err != nil
	case remove:
		if err != nil {
			m.failed = then
			return m
		}
		m = m.lost()
	case announce:
		m.said = then
		if m.conflict != nil {
			m.defended = then
		}
		m.announced++
	}
	return m
}

// lost is what a claim remembers when its address turns out to be gone.
func (m memory) lost() memory {
	m.present, m.announced, m.silent, m.sent, m.failed = false, 0, false, 0, 0
	return m
}

// hears is what a claim remembers of what somebody else was heard saying. Who has an address and asks for it is a former holder that says so.
func (m memory) hears(s Sighting, now time.Duration) memory {
	const together = time.Second // an answer and a question
	switch {
	case s.Asks && m.want == toHandOver:
		m.asked++
	case s.Asks:
		m.leaver, m.leaverAt = s.From, now
		m.former = m.former || bytes.Equal(m.answered, s.From) && now-m.heardAt < together
	case m.present:
		m.conflict, m.seen = s.From, now
	default:
		m.answered, m.heardAt, m.sent, m.silent = s.From, now, 0, false
		m.former = bytes.Equal(m.leaver, s.From) && now-m.leaverAt < together
	}
	return m
}
