package local

import (
	"context"
	"errors"
	"strings"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/mesh/report"
)

// run watches the server and publishes how it stands, until ctx ends.
func (s *server) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.h.wg.Go(s.resume)
	s.h.wg.Go(func() {
		if err := s.rules.Run(ctx); err != nil {
			s.h.cfg.Logger.Error("cuts of a database server are not watched", "tag", s.tag, "err", err)
		}
	})
	s.h.wg.Go(func() { s.observe(ctx) })
	s.clone.recover()
	tick := time.NewTicker(s.h.cfg.Look)
	defer tick.Stop()
	var last report.MySQL
	published := false
	for n := 0; ; n++ {
		if r := s.report(); !published || r != last {
			s.publish(r)
			last, published = r, true
		}
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
			continue
		case <-tick.C:
		}
		s.tend(n)
		s.vip.keep(ctx)
	}
}

// publish makes a report known, unless the host is no member any more.
func (s *server) publish(r report.MySQL) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if !isClosed(s.stopped) {
		s.h.cfg.Publish(s.tag, &r)
	}
}

// tend looks for what is to be done without an order.
func (s *server) tend(n int) {
	if !s.orders.TryLock() {
		return // an order does it
	}
	defer s.orders.Unlock()
	st, err := s.store.get()
	if err != nil {
		return
	}
	if s.running() == nil {
		// All processes are gone through seldom: there may be thousands.
		if p, err := s.look(n%8 == 0); err == nil {
			if st.Marked == "" {
				if st.Ended != "" && !s.clone.busy() {
					_ = s.store.note(func(st *state) { st.Ended = "" }) // tried again with the next write
				}
				s.adopt(p)
			} else {
				s.adopt(p)
				s.h.cfg.Logger.Error("a database server was started that is marked not to; it is killed again: let nothing else than the agent start it (systemctl disable mariadb)",
					"tag", s.tag, "pid", p.pid, "marked", st.Marked)
				if _, err := s.sigkill(); err != nil {
					s.h.cfg.Logger.Error("a marked database server cannot be killed", "tag", s.tag, "err", err)
				}
			}
		} else if !errors.Is(err, errNoProcess) {
			s.stand(mysqlha.ProcessUnknown, s.h.cfg.Clock.Now(), err.Error())
		}
	} else if st.Marked != "" {
		_, _ = s.sigkill() // the order that marked it was lost on its way
	}
	if st.Clone != nil {
		s.clone.resume()
	}
	s.mu.Lock()
	unruled := s.unruled
	s.mu.Unlock()
	if unruled != "" && n%4 == 0 {
		_ = s.applyRules(st) // what is wrong stays in the report
	}
	if s.store.dirty() && n%4 == 0 {
		_ = s.store.note(nil)
	}
}

// lookForPrograms is how often it is looked whether mariadb-backup is here: packages come and go rarely.
const lookForPrograms = time.Minute

// reading is what the own server said last, and whether it may answer readers.
type reading struct {
	role string
	in   bool
	why  string
	good time.Time // when it was last known not to be behind
}

// observe asks the own server.
func (s *server) observe(ctx context.Context) {
	tick := time.NewTicker(s.h.cfg.Observe)
	defer tick.Stop()
	var asked time.Time // which programs there are
	for {
		if time.Since(asked) > lookForPrograms {
			asked = time.Now()
			dumps := !s.h.has(programBackup, programStream)
			s.mu.Lock()
			s.dumps = dumps
			s.mu.Unlock()
		}
		m := s.get()
		if m.SQL != nil {
			var f *mysqlha.Facts
			var err error
			if s.running() != nil {
				asked, cancel := context.WithTimeout(ctx, s.h.cfg.Observe)
				var facts mysqlha.Facts
				if facts, err = m.SQL.Observe(asked); err == nil {
					f = &facts
				}
				cancel()
			} else {
				err = errNoProcess
			}
			s.mu.Lock()
			s.view = s.view.next(f, err, m.MaxLag, s.h.cfg.Clock.Now())
			s.mu.Unlock()
			s.poke()
		}
		s.mu.Lock()
		was := s.full
		s.mu.Unlock()
		if now := full(was, m.Server.Datadir); now != was {
			s.mu.Lock()
			s.full = now
			s.mu.Unlock()
			s.poke()
			if now != "" {
				s.h.cfg.Logger.Error("disk of a database server is full", "tag", s.tag, "reason", now)
			} else {
				s.h.cfg.Logger.Info("disk of a database server has room again", "tag", s.tag)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// next is what to think of a server, by what it said, or that it said nothing (f = nil). A replica leaves the readers when it is further behind than maxLag, and comes back
// when it is half as far: one at the limit does not come and go. One that cannot say how far it is, as while its primary is replaced, keeps
// its place for maxLag.
func (r reading) next(f *mysqlha.Facts, err error, maxLag time.Duration, now time.Time) reading {
	unknown := func(why string) reading {
		if r.in && (r.role == "primary" || now.Sub(r.good) > maxLag) {
			r.in = false
		}
		r.why = ""
		if !r.in {
			r.why = why
		}
		return r
	}
	switch {
	case errors.Is(err, errNoProcess):
		return reading{why: "no process runs it"}
	case f == nil:
		return unknown("it does not answer: " + err.Error())
	case f.Replica == nil && f.ReadOnly:
		return reading{why: "it follows nobody, and is read-only"}
	case f.Replica == nil:
		return reading{role: "primary", in: true, good: now}
	}
	r.role = "replica"
	switch lag := f.Replica.Lag; {
	case !f.Replica.SQL && f.Replica.SQLErrno != 0:
		r.in, r.why = false, "it applies nothing: "+f.Replica.SQLError
	case lag == nil || !f.Replica.SQL:
		return unknown("it does not know how far behind it is")
	case *lag > maxLag || !r.in && *lag > maxLag/2:
		// Without figures: a report is sent when it changes.
		r.in, r.why = false, "it is further behind than MaxLag, "+maxLag.String()+", or was, and has not caught up to half of it"
	default:
		r.in, r.why, r.good = true, "", now
	}
	return r
}

// report is what the mesh is to know. It changes rarely: a lag in seconds is not in it.
func (s *server) report() report.MySQL {
	st, damaged := s.store.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := report.MySQL{
		Process: string(s.status), Since: s.since.UnixMilli(), Epoch: st.Epoch, Port: s.member.Server.Port, VIP: s.vip.phase(),
		Role: s.view.role, Reads: s.view.in && s.status == mysqlha.ProcessRuns && st.Copy == nil, Full: s.full, Lends: st.Donates, Dumps: s.dumps,
	}
	if c := st.Copy; c != nil {
		r.Copy, r.Differs = c.From, short(c.Differs)
	}
	switch {
	case damaged != nil:
		r.Reason = damaged.Error()
	case s.status != mysqlha.ProcessRuns:
		r.Role, r.Reason = "", s.why
	case s.unruled != "":
		r.Reason = "what it is cut from is not in the kernel: " + s.unruled
	case !s.view.in:
		r.Reason = s.view.why
	case r.Differs != "":
		r.Reason = "it differs from " + r.Copy + ", of which it is a copy"
	case r.Copy != "":
		r.Reason = "it is a copy of " + r.Copy + ", and was not compared with it yet"
	}
	return r
}

// short is a text that fits into a report.
func short(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "…"
}
