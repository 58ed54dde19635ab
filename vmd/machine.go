package vmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/report"
	"hostmesh/vmd/plan"
)

const (
	stepTries  = 3                // how often a step of a machine that never ran is tried on one box
	backFirst  = time.Second      // after the first failure; it doubles
	backLast   = 5 * time.Minute  // at most, for a machine that ran
	settleTime = 5 * time.Second  // after an offer is over, for what the handler is still at
	loopEnds   = 5                // as often may a machine end by itself
	loopWithin = 10 * time.Minute // within this time, before it is started
	loopRest   = 5 * time.Minute  // only so often
	waitTime   = 2 * time.Second  // between two looks at something that tells nobody when it is done
)

// machine works on one entry of the ledger, one step at a time.
type machine struct {
	box  *Box
	uuid string
	poke chan struct{} // one slot

	// Of the worker alone. What is lost with the agent is found again by looking, or begins anew.
	image   *Image      // that was brought here for it
	disk    string      // path of its volume, once that was made or looked at
	iso     string      // and of its seed
	asked   time.Time   // when its guest was asked to end; zero = it was not
	ran     bool        // it was seen running since it was started last
	ends    []time.Time // when it ended by itself, lately
	rest    time.Time   // until when it is not started
	fails   int         // of the present step in a row
	failed  action
	not     plan.Room     // what it could not be given when that was asked for last
	settled bool          // a reservation of a former run was looked at
	mine    bool          // this run wrote the entry down
	looked  time.Time     // when a Kept one was looked at last
	waited  time.Duration // for how long it was kept since that was written down

	mu     sync.Mutex // guards the fields below
	status report.VM
	until  time.Time // the worker pauses after a failure
	urgent bool      // and shall not
	purge  bool      // somebody asked for it
	said   said      // by HostDB, when that was looked at last
	owned  bool      // its record was seen to say that this box took it
	rival  string    // who else has it, by its record or HostDB; "" = nobody is known to
}

// own sets what is known of its record.
func (m *machine) own(owned bool, rival string) {
	m.mu.Lock()
	changed := m.owned != owned || m.rival != rival
	m.owned, m.rival = owned, rival
	m.mu.Unlock()
	if changed {
		m.wake()
	}
}

func newMachine(b *Box, uuid string) *machine {
	return &machine{box: b, uuid: uuid, poke: make(chan struct{}, 1)}
}

// wake has the worker look again.
func (m *machine) wake() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// hurry has it look again at once, also after a failure.
func (m *machine) hurry() {
	m.mu.Lock()
	m.urgent = true
	m.mu.Unlock()
	m.wake()
}

// said is what HostDB says that has to do with a machine, so far that a change of it is to be noticed.
type said struct {
	stamp   hostdb.Stamp // of its entry
	subnet  plan.Subnet
	problem string
	what    wanting
	clash   string
}

// follow has it look again, at once, when HostDB says something else of it by now: that may be the remedy for what failed.
func (m *machine) follow(s said) {
	m.mu.Lock()
	changed := m.said != s
	m.said = s
	m.mu.Unlock()
	if changed {
		m.hurry()
	}
}

// say sets what is reported. A phase keeps the time when it began.
func (m *machine) say(phase report.Phase, step action, reason string) {
	m.mu.Lock()
	was := m.status
	if was.Phase != phase {
		m.status.Since = m.box.cfg.Clock.Now().UnixMilli()
	}
	m.status.Phase, m.status.Step, m.status.Reason = phase, string(step), reason
	is := m.status
	m.mu.Unlock()
	if is == was {
		return
	}
	if is.Phase != was.Phase {
		e, _ := m.box.entry(m.uuid)
		m.box.log.Info("vm "+string(is.Phase), "vm", e.Name, "uuid", m.uuid, "step", is.Step, "reason", reason)
	}
	m.box.changed()
}

// work is the worker.
func (m *machine) work(ctx context.Context) {
	for {
		wait, done := m.turn(ctx)
		if done || ctx.Err() != nil {
			return
		}
		if wait > 0 && !m.pause(ctx, wait) {
			return
		}
	}
}

// pause waits until it is poked, for wait at most; after a failure until that is over, or somebody hurries. It reports whether
// ctx is still on.
func (m *machine) pause(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		case <-m.poke:
		}
		m.mu.Lock()
		now := m.box.cfg.Clock.Now()
		over := m.urgent || !now.Before(m.until)
		m.mu.Unlock()
		if over {
			return true
		}
	}
}

// turn looks, decides and acts once. wait is for how long there is nothing to do.
func (m *machine) turn(ctx context.Context) (wait time.Duration, done bool) {
	e, ok := m.box.entry(m.uuid)
	if !ok {
		return 0, true
	}
	select {
	case m.box.slots <- struct{}{}:
		defer func() { <-m.box.slots }()
	case <-ctx.Done():
		return 0, true
	}
	m.mu.Lock()
	if m.urgent {
		m.fails, m.rest, m.ends, m.not, m.rival = 0, time.Time{}, nil, plan.Room{}, ""
	}
	m.urgent, m.until = false, time.Time{}
	m.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, callTime)
	s, seen, err := m.look(limited, e)
	cancel()
	if err != nil {
		return m.fail(ctx, e, seen, actNone, err)
	}
	if err := m.noteWaited(e); err != nil {
		return m.fail(ctx, e, seen, actKeep, err)
	}
	a := next(s)
	if a == actNone || a == actWait {
		if a == actNone {
			m.failed, m.fails = "", 0
		}
		m.show(e, s, seen)
		return m.idle(s), false
	}
	m.progress(e, a)
	err = m.act(ctx, a, e, seen)
	switch {
	case errors.Is(err, errGone):
		return 0, true
	case errors.Is(err, errAgain):
		return waitTime, false
	case err != nil:
		return m.fail(ctx, e, seen, a, err)
	}
	m.box.stats.did(a)
	if m.failed == a {
		m.failed, m.fails = "", 0
	}
	return 0, false
}

// idle is how long a machine with nothing to do need not be looked at.
func (m *machine) idle(s situation) time.Duration {
	now := m.box.cfg.Clock.Now()
	switch {
	case s.Asked || s.Domain == dying || s.Stage == Reserving:
		return waitTime
	case s.Rest:
		return max(m.rest.Sub(now), waitTime)
	case s.Wish == unseen:
		return waitTime * 5
	}
	return lookEvery
}

// sight is what was seen when a situation was looked at.
type sight struct {
	wish   plan.Wish
	clash  string
	domain plan.Machine
	away   error
}

// Volumes of a machine.
func diskName(uuid string) string { return uuid + ".qcow2" }
func seedName(uuid string) string { return uuid + "-seed.iso" }

// look finds out what the next action follows from. It changes nothing but what the worker remembers.
func (m *machine) look(ctx context.Context, e Entry) (situation, sight, error) {
	b := m.box
	now := b.cfg.Clock.Now()
	s := situation{Stage: e.Stage, Ran: e.Ran, Domain: absent, Blind: b.cfg.Complete != nil && !b.cfg.Complete()}
	var seen sight
	seen.wish, s.Wish, seen.clash = b.wish(e)
	if e.Stage == Reserving {
		over := now.After(time.UnixMilli(e.Expires).Add(settleTime))
		s.Due = over || !m.mine && !m.settled
		return s, seen, nil
	}
	d, err := b.cfg.Hypervisor.Get(ctx, e.UUID)
	switch {
	case errors.Is(err, ErrNoDomain):
	case errors.Is(err, ErrAway):
		s.Domain, seen.away = unknown, err
	case err != nil:
		return s, seen, err
	default:
		seen.domain, s.Domain = d, domainOf(d, b.cfg.Mesh)
	}
	if seen.wish.PowerUnknown && (e.Ran || s.Domain == running) && (s.Wish == wantOn || s.Wish == wantOff) { // it stays as it is
		s.Wish = wantOn
		if s.Domain == off || s.Domain == absent {
			s.Wish = wantOff
		}
	}
	m.witness(e, s, now)
	s.Asked = !m.asked.IsZero()
	s.Late = s.Asked && now.Sub(m.asked) >= b.cfg.Shutdown || s.Domain == dying && !s.Asked
	s.Rest = now.Before(m.rest)
	if e.Stage == Kept {
		s.Over = m.keptEnough(e, now)
	}
	m.mu.Lock()
	s.Over = s.Over || m.purge
	s.Unowned, s.Rival = !m.owned, m.rival != ""
	m.mu.Unlock()
	if e.Stage != Held || s.Wish != wantOn && s.Wish != wantOff {
		return s, seen, nil
	}
	return s, seen, m.compare(ctx, e, &s, seen)
}

// witness remembers what only somebody who watches can know: that a machine ended by itself, and when it was asked to.
func (m *machine) witness(e Entry, s situation, now time.Time) {
	switch {
	case s.Domain == running:
		m.ran = true
		if s.Wish == wantOn && e.Stage == Held {
			m.asked = time.Time{}
		}
	case s.Domain == off || s.Domain == absent || s.Domain == paused:
		if s.Domain == paused && s.Wish == wantOn && e.Stage == Held {
			m.asked = time.Time{}
		}
		if m.ran && s.Wish == wantOn && e.Stage == Held && m.asked.IsZero() {
			m.ends = append(slices.DeleteFunc(m.ends, func(t time.Time) bool { return now.Sub(t) > loopWithin }), now)
			m.rest = now.Add(restAfter(len(m.ends)))
			m.box.stats.ended.Add(1)
			what := "a machine ended by itself"
			if s.Domain == paused {
				what = "a machine was paused: " + pausedWhy
			}
			m.box.log.Warn(what, "vm", e.Name, "uuid", e.UUID, "times", len(m.ends), "started_in", restAfter(len(m.ends)))
		}
		m.ran, m.asked = false, time.Time{}
	}
}

// pausedWhy is for people: the emulator pauses a guest whose disk cannot be written, until it is told to go on.
const pausedWhy = "its disk could not be written (is the box's disk full?), or somebody paused it"

// restAfter is how long a machine is not started that ended by itself so often lately.
func restAfter(ends int) time.Duration {
	switch {
	case ends >= loopEnds:
		return loopRest
	case ends == 1:
		return 0
	}
	return backFirst << (ends - 2)
}

// compare finds out how what there is differs from what HostDB wants.
func (m *machine) compare(ctx context.Context, e Entry, s *situation, seen sight) error {
	b, w := m.box, seen.wish
	s.Problem = w.Problem
	s.Renamed = e.Name != w.Name
	s.NoAddr = !e.Ran && (e.MAC == "" && w.Subnet.Tag != "" || w.Subnet.Tag != "" && (!e.IP.IsValid() || e.Subnet != w.Subnet.Tag))
	b.mu.Lock()
	s.Unsaid = unsaid(b.db.Data(hostdb.Hosts, w.Name), b.cfg.Name, e)
	b.mu.Unlock()
	want := plan.Room{CPUs: w.CPUs, Memory: w.Memory, Disk: max(w.Disk, e.Disk)}
	have := plan.Room{CPUs: e.CPUs, Memory: e.Memory, Disk: e.Disk}
	if e.Domain != nil {
		have.CPUs, have.Memory = e.Domain.CPUs, e.Domain.Memory
	}
	if s.Domain == running { // a disk grows when it is off
		want.Disk = have.Disk
	}
	readable := w.Problem == "" || w.Twin // else a default stands where somebody meant something
	s.Changed = readable && want != have && want != m.not && (e.Domain != nil || !e.Ran)
	s.Composed = e.Domain != nil
	if s.Domain != absent {
		return nil
	}
	volumes, err := b.cfg.Hypervisor.Volumes(ctx)
	if err != nil {
		return err
	}
	disk, seed := slices.Contains(volumes, diskName(e.UUID)), slices.Contains(volumes, seedName(e.UUID))
	if e.Ran {
		s.Disk = disk || e.Domain != nil && e.Domain.Disk == ""
		return nil
	}
	s.Image = m.image != nil && m.image.Name == w.Image
	if s.Image {
		s.Disk = disk || m.image.Base == "" && w.Disk == 0
		s.Seed = seed || m.image.Kernel != ""
		// What was composed before belongs to another wish: a box that was left, an image that was changed.
		s.Composed = e.Domain != nil && e.Domain.CPUs == w.CPUs && e.Domain.Memory == w.Memory && e.Domain.IP == e.IP && e.Domain.MAC.String() == e.MAC
	}
	return nil
}

// progress shows what is being done.
func (m *machine) progress(e Entry, a action) {
	switch a {
	case actRename, actAddress, actSay, actImage, actDisk, actSeed, actCompose, actDefine:
		if !e.Ran {
			m.say(report.Preparing, a, "")
		}
	case actStart:
		m.say(report.Starting, a, "")
	case actShutdown, actCut, actUndefine:
		if e.Stage == Held || e.Stage == Destroying {
			m.say(report.Stopping, a, "")
		}
	}
}

// show shows a machine with nothing to do.
func (m *machine) show(e Entry, s situation, seen sight) {
	var notes []string
	if seen.clash != "" {
		notes = append(notes, seen.clash)
	}
	if w := seen.wish; w.Problem != "" && !w.Twin {
		notes = append(notes, w.Problem+"; it stays as it is")
	}
	if w := seen.wish; w.IP.IsValid() && e.IP.IsValid() && w.IP != e.IP {
		notes = append(notes, fmt.Sprintf("HostDB says %s, but it was made with %s: a machine keeps its address; destroy it and create it to change that", w.IP, e.IP))
	}
	if m.not != (plan.Room{}) {
		notes = append(notes, fmt.Sprintf("this box has no room for %d CPUs, %s of memory and %s of disk: it keeps what it has", m.not.CPUs, size(m.not.Memory), size(m.not.Disk)))
	}
	m.mu.Lock()
	if m.rival != "" {
		notes = append(notes, m.rival)
	}
	note := strings.Join(notes, "; ")
	was := m.status
	m.mu.Unlock()
	if s.Domain == unknown {
		phase := was.Phase
		if phase == "" {
			phase = report.Reserved
			if e.Ran {
				phase = report.Unknown
			}
		}
		m.say(phase, action(was.Step), "the hypervisor is away: "+seen.away.Error())
		return
	}
	switch e.Stage {
	case Reserving:
		m.say(report.Reserved, actSettle, "")
	case Held:
		m.showHeld(e, s, note)
	case Destroying:
		m.say(report.Stopping, actShutdown, "")
	case Kept:
		m.say(report.Deleted, actKeep, "")
	}
}

func (m *machine) showHeld(e Entry, s situation, note string) {
	b := m.box
	switch {
	case s.Wish == unseen && (s.Domain == running):
		m.say(report.Running, "", "hosts/"+e.Name+" is not in this agent's copy of HostDB yet")
	case s.Wish == unseen:
		m.say(report.Reserved, "", "hosts/"+e.Name+" is not in this agent's copy of HostDB yet")
	case s.Rival && s.Domain != running:
		m.say(report.Failed, actOwn, note)
	case s.Domain == alien:
		m.say(report.Failed, "", "a domain that somebody else made has its UUID: undefine that, and hostmesh goes on")
	case s.Rest && s.Domain == paused && len(m.ends) >= loopEnds:
		m.say(report.Failed, actStart, fmt.Sprintf("it was paused %d times within %s: %s; it is made to go on every %s", len(m.ends), loopWithin, pausedWhy, loopRest))
	case s.Rest && s.Domain == paused:
		m.say(report.Starting, actStart, "it was paused, and is made to go on in a moment: "+pausedWhy)
	case s.Rest && len(m.ends) >= loopEnds:
		m.say(report.Failed, actStart, fmt.Sprintf("it ended by itself %d times within %s: see hostmesh vm console %s; it is started again every %s",
			len(m.ends), loopWithin, e.Name, loopRest))
	case s.Rest:
		m.say(report.Starting, actStart, "it ended by itself, and is started again in a moment")
	case s.Domain == dying, s.Domain == running && s.Wish == wantOff:
		m.say(report.Stopping, actShutdown, note)
	case s.Domain == running:
		m.say(report.Running, "", note)
	case s.Domain == off && s.Wish == wantOff:
		m.say(report.Stopped, "", note)
	default:
		b.log.Debug("machine waits", "vm", e.Name, "domain", s.Domain)
	}
}

// size is bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dB", n)
}

// hopeless reports whether trying again on this box does not help.
func hopeless(err error) bool {
	for _, e := range []error{ErrRefused, ErrNotOurs, ErrUnsupported, ErrBadImage, plan.ErrAddress, errNoRoom, errBridge} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// blameless reports whether an error says nothing of this box or this machine: it is tried again for as long as that takes.
func blameless(err error) bool {
	for _, e := range []error{ErrAway, hostdb.ErrReadOnly, hostdb.ErrClock, hostdb.ErrUnavailable, hostdb.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return noQuorum(err)
}

// fail keeps the account of an action that failed, and decides what follows.
func (m *machine) fail(ctx context.Context, e Entry, seen sight, a action, err error) (wait time.Duration, done bool) {
	if ctx.Err() != nil {
		return 0, true
	}
	b := m.box
	if now, ok := b.entry(m.uuid); ok {
		e = now // the action may have written something down before it failed
	}
	if m.failed != a {
		m.fails = 0
	}
	m.failed = a
	m.fails++
	making := e.Stage == Held && !e.Ran && a != actNone && a != actLeave && a != actTicket && a != actDoom && a != actRename
	phase := report.Failed
	switch {
	case errors.Is(err, errTicket):
		phase = report.Waiting
		m.hold(ticketEvery)
		m.say(phase, a, err.Error())
		return ticketEvery, false
	case blameless(err):
		m.mu.Lock()
		phase = m.status.Phase
		m.mu.Unlock()
		if phase == "" {
			phase = report.Reserved
		}
		wait = min(backFirst<<min(m.fails-1, 4), backLast)
	case making && (hopeless(err) || m.fails >= stepTries):
		b.stats.failures.Add(1)
		b.log.Error("a machine cannot be made here", "vm", e.Name, "uuid", e.UUID, "step", string(a), "tries", m.fails, "err", err)
		m.say(report.Preparing, a, "another box is looked for: "+err.Error()) // it fails when no box can make it
		m.fails = 0
		if lerr := b.note(m.uuid, func(e *Entry) { e.Stage, e.Reason = Leaving, fmt.Sprintf("%s: %v", a, err) }); lerr != nil {
			b.log.Error("the ledger cannot be written", "vm", e.Name, "err", lerr)
			return m.hold(backFirst), false
		}
		return 0, false
	case e.Stage == Leaving: // what was made here is still to go; another box may make it
		phase = report.Preparing
		wait = min(backFirst<<min(m.fails-1, 12), backLast)
	case making:
		phase = report.Preparing
		wait = backFirst << (m.fails - 1)
	default:
		wait = min(backFirst<<min(m.fails-1, 12), backLast)
	}
	b.stats.failures.Add(1)
	if m.fails == 1 {
		b.log.Warn("a step of a machine failed; it is tried again", "vm", e.Name, "uuid", e.UUID, "step", string(a), "err", err)
	}
	m.say(phase, a, err.Error())
	return m.hold(wait), false
}

// hold keeps pokes from shortening a pause.
func (m *machine) hold(wait time.Duration) time.Duration {
	m.mu.Lock()
	m.until = m.box.cfg.Clock.Now().Add(wait)
	m.mu.Unlock()
	return wait
}
