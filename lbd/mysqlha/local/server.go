package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/nft"
)

// server is one server of this host, with its process or without.
type server struct {
	h     *Host
	tag   string
	store *store
	rules Rules
	vip   address
	clone cloning

	publishing sync.Mutex // held while a report is made known

	orders sync.Mutex // one order that changes something at a time; not held while a server starts or ends
	// lastCut are, by source, the last orders to cut or to uncut; orders guards it. It begins anew with the agent: what was on its way to the one before is gone.
	lastCut map[netip.AddrPort]mysqlha.Order
	// lastRun is the last order about whether the process is to run, as lastCut is about cuts.
	lastRun mysqlha.Order

	mu      sync.Mutex // guards the fields below
	member  Member
	process *process // nil = none runs
	leaving *process // the last one, which may not be gone yet
	status  mysqlha.Process
	since   time.Time
	why     string
	killing string // why it is being killed, while that is not in its state yet
	unruled string // why the kernel does not have the rules; "" = it does
	view    reading
	started started       // the last start by this agent
	full    string        // what is the matter with the disk; "" = it has room
	dumps   bool          // mariadb-backup is not here, so that copies are dumps
	changed chan struct{} // one slot: run is to publish
	closed  bool
	stopped chan struct{} // closed by close
}

// started is a process that this agent has started. Until it is found it is that of the command, which may hand over to systemd or the like.
type started struct {
	pid   int
	began uint64 // 0 = it was not found yet
	as    mysqlha.Role
	epoch uint64 // of the order
}

// is reports whether a process is the one.
func (x started) is(p *process) bool { return x.pid == p.pid && (x.began == 0 || x.began == p.began) }

// openServer finds the process and restores the rules. The server may be nil with an error.
func openServer(h *Host, m Member) (*server, error) {
	rules, err := h.cfg.Rules(m.Server.Port)
	if err != nil {
		return nil, err
	}
	s := &server{
		h: h, tag: m.Tag, member: m, store: openStore(h.cfg.Dir, m.Tag), rules: rules,
		changed: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	s.vip.s, s.clone.s = s, s
	st, err := s.store.get()
	if err == nil {
		err = s.applyRules(st)
	}
	s.settle(st)
	return s, err
}

// settle finds out how the server stands when nothing is known yet.
func (s *server) settle(st state) {
	now := s.h.cfg.Clock.Now()
	switch p, err := s.look(true); {
	case err == nil:
		s.adopt(p)
	case !errors.Is(err, errNoProcess):
		s.stand(mysqlha.ProcessUnknown, now, err.Error())
	case st.Ended != "":
		s.stand(mysqlha.ProcessStopped, now, st.Ended)
	case st.Ran:
		s.died(now, "it ended while no agent watched it")
	default:
		s.stand(mysqlha.ProcessStopped, now, "it was not started since this host is a member")
	}
}

func (s *server) get() Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member
}

// replace takes a newer description of the same server.
func (s *server) replace(m Member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.member.same(m) {
		return false
	}
	s.member = m
	return true
}

func (s *server) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.stopped)
	watched := []*process{s.process, s.leaving}
	s.process, s.leaving = nil, nil
	s.mu.Unlock()
	for _, p := range watched {
		if p != nil {
			p.close()
		}
	}
	s.clone.stop(ErrClosed)
	s.clone.wg.Wait()
	s.vip.close()
}

// look looks for the process.
func (s *server) look(scan bool) (*process, error) {
	m := s.get()
	pid, err := find(m.Server, scan)
	if err != nil {
		return nil, err
	}
	return watch(m.Server, pid)
}

// adopt watches a process from now on.
func (s *server) adopt(p *process) {
	now := s.h.cfg.Clock.Now()
	s.mu.Lock()
	if s.closed || s.process != nil {
		s.mu.Unlock()
		p.close()
		return
	}
	s.process = p
	s.status, s.since, s.why = mysqlha.ProcessRuns, p.since(now), ""
	s.mu.Unlock()
	go func() {
		select {
		case <-p.dying:
			s.ended(p)
		case <-s.stopped:
		}
	}()
	s.poke()
	if err := s.store.note(func(st *state) { st.Ran = true }); err != nil && !errors.Is(err, ErrDamaged) {
		s.h.cfg.Logger.Warn("that a database server runs cannot be written down", "tag", s.tag, "err", err)
	}
	s.h.cfg.Logger.Info("database server is watched", "tag", s.tag, "pid", p.pid)
}

// ended is called at once when the process has.
func (s *server) ended(p *process) {
	now := s.h.cfg.Clock.Now()
	s.mu.Lock()
	why := s.killing // before the state: it is emptied when that says it
	s.mu.Unlock()
	st, _ := s.store.get()
	s.mu.Lock()
	if s.process != p {
		s.mu.Unlock()
		return
	}
	s.process, s.leaving = nil, p
	s.mu.Unlock()
	if st.Ended != "" {
		why = st.Ended
	}
	if why != "" {
		s.stand(mysqlha.ProcessStopped, now, why)
		s.h.cfg.Logger.Info("database server has ended", "tag", s.tag, "pid", p.pid, "why", why)
	} else {
		s.died(now, "process "+fmt.Sprint(p.pid)+" ended without an order")
		s.h.cfg.Logger.Error("database server died", "tag", s.tag, "pid", p.pid)
	}
}

// departing is a process that does nothing any more, and is not gone; nil = there is none.
func (s *server) departing() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == nil || isClosed(s.leaving.gone) {
		return nil
	}
	return s.leaving
}

func (s *server) died(now time.Time, why string) {
	s.h.counts.deaths.Add(1)
	s.stand(mysqlha.ProcessDied, now, why)
}

func (s *server) stand(status mysqlha.Process, since time.Time, why string) {
	s.mu.Lock()
	s.status, s.since, s.why = status, since, why
	s.mu.Unlock()
	s.poke()
}

func (s *server) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *server) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil && s.process.alive() {
		return s.process
	}
	return nil
}

func (s *server) localState() mysqlha.LocalState {
	st, damaged := s.store.get()
	s.mu.Lock()
	out := mysqlha.LocalState{Process: s.status, Since: s.since, Why: s.why, Marked: st.Marked, Copy: st.Copy, Epoch: st.Epoch, Fence: st.Fence}
	if s.process != nil {
		out.PID = s.process.pid
		if s.started.is(s.process) && s.started.as == mysqlha.AsReplica {
			out.Rejoined = s.started.epoch
		}
	}
	s.mu.Unlock()
	for _, c := range st.Cuts {
		out.CutFrom = append(out.CutFrom, c.String())
	}
	out.VIP = s.vip.phase()
	if damaged != nil {
		out.Marked = damaged.Error()
	}
	return out
}

// compared takes note of what came of comparing a copy.
func (s *server) compared(o mysqlha.Order, differs string) error {
	s.orders.Lock()
	defer s.orders.Unlock()
	if err := s.clone.ended(); err != nil {
		return fmt.Errorf("what was compared is replaced: %w", err)
	}
	st, _ := s.store.get()
	edit := func(st *state) {
		switch {
		case st.Copy != nil && differs == "":
			st.Copy = nil
		case st.Copy != nil:
			st.Copy.Differs = differs
		}
	}
	if err := s.store.order(o, edit); err != nil {
		return err
	}
	switch {
	case st.Copy == nil:
	case differs == "":
		s.h.counts.compared.Add(1)
		s.h.cfg.Logger.Info("copy of a database server was found right", "tag", s.tag, "from", st.Copy.From)
	default:
		s.h.counts.differing.Add(1)
		s.h.cfg.Logger.Error("copy of a database server differs", "tag", s.tag, "from", st.Copy.From, "differs", differs)
	}
	s.poke()
	return nil
}

// applyRules has the kernel as a state says.
func (s *server) applyRules(st state) error {
	port := s.get().Server.Port
	// The agents see what the server must not hear: one that watches over the cluster may be here.
	c := nft.Cutting{Spare: mysqlha.SocketMark}
	for _, x := range st.Cuts {
		if x.Port() == 0 {
			c.Deaf = append(c.Deaf, netip.AddrPortFrom(x.Addr(), port))
		} else {
			c.From = append(c.From, x)
		}
	}
	if st.Shut {
		c.Shut = []uint16{port}
	}
	err := s.rules.Apply(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unruled = ""
	if err != nil {
		s.unruled = err.Error()
	}
	return err
}

// cut cuts from a source, or, with port 0, the own server from whoever is at an address; or it takes that back. The kernel cuts before the disk knows, and goes on cutting until the disk knows better.
func (s *server) cut(o mysqlha.Order, source mysqlha.Source, on bool) error {
	addr, err := netip.ParseAddr(source.Host)
	if err != nil || source.Port < 0 || source.Port > 65535 {
		return fmt.Errorf("source %s, port %d, is no address of a server", source.Host, source.Port)
	}
	from := netip.AddrPortFrom(addr.Unmap(), uint16(source.Port))
	s.orders.Lock()
	defer s.orders.Unlock()
	if err := s.store.admit(o); err != nil {
		return err
	}
	if o.Stale(s.lastCut[from]) {
		return fmt.Errorf("%w: a later order about %s was here before this one", mysqlha.ErrOvertaken, from)
	}
	if s.lastCut == nil {
		s.lastCut = map[netip.AddrPort]mysqlha.Order{}
	}
	s.lastCut[from] = o
	edit := func(st *state) {
		st.Cuts = slices.DeleteFunc(st.Cuts, func(c netip.AddrPort) bool { return c == from })
		if on {
			st.Cuts = append(st.Cuts, from)
			slices.SortFunc(st.Cuts, netip.AddrPort.Compare)
		}
	}
	if on {
		next, _ := s.store.get()
		edit(&next)
		if err := s.applyRules(next); err != nil {
			return err
		}
		s.h.counts.cuts.Add(1)
		return s.store.restrain(o, edit)
	}
	if err := s.store.order(o, edit); err != nil {
		return err
	}
	st, _ := s.store.get()
	return s.applyRules(st)
}

// kill shuts the network, kills the server, and marks it.
func (s *server) kill(ctx context.Context, o mysqlha.Order, why string) error {
	if why == "" {
		why = "it was fenced"
	}
	s.orders.Lock()
	p, err := s.killLocked(o, why)
	s.orders.Unlock()
	for {
		switch {
		case p != nil:
			return errors.Join(err, s.wait(ctx, p))
		case err != nil || !s.starting():
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%w, and has no process yet that could be killed: %w", errStarting, ctx.Err())
		}
		time.Sleep(2 * time.Millisecond)
		p, err = s.sigkill()
	}
}

// admitRun says whether an order about whether the process is to run may be carried out: a later one was not here. A kill may arrive seconds after it was given, when a link is up again, and the server
// was started as a replica since. orders is held.
func (s *server) admitRun(o mysqlha.Order) error {
	if err := s.store.admit(o); err != nil {
		return err
	}
	if o.Stale(s.lastRun) {
		return fmt.Errorf("%w: a later order to start or to end the server was here before this one", mysqlha.ErrOvertaken)
	}
	s.lastRun = o
	return nil
}

func (s *server) killLocked(o mysqlha.Order, why string) (*process, error) {
	if err := s.admitRun(o); err != nil {
		return nil, err
	}
	edit := func(st *state) {
		st.Marked, st.MarkedAt, st.Ended, st.Shut, st.Address = why, o.Epoch, why, true, false
	}
	// The network first: a killed server's sockets close only when its memory is freed.
	next, _ := s.store.get()
	edit(&next)
	shut := s.applyRules(next)
	if shut != nil { // SIGKILL is what counts
		s.h.cfg.Logger.Error("network of a database server is not shut before it is killed", "tag", s.tag, "err", shut)
	}
	s.clone.stop(mysqlha.ErrOvertaken)
	// The disk last: one that hangs, which may be why the server is to go, must not keep it alive. An agent that ends in between has answered nobody, so the order is given again. Until then the next agent
	// takes the server for one that died, and starts it under an order alone. Whoever else starts it has one that is read-only and follows nobody: what waited in it for an acknowledgement waits no more, but
	// its clients were told nothing, and the order that comes again kills it.
	s.kills(why)
	p, sent := s.sigkill()
	if shut == nil {
		s.vip.handOver(why)
	} else {
		s.vip.letGo(why)
	}
	// That it fails is told: the server might start again after a reboot.
	err := s.store.restrain(o, edit)
	s.kills("")
	s.h.counts.kills.Add(1)
	return p, errors.Join(err, sent)
}

// kills says why a server is being killed that may end before its state says so; "" = it says so now.
func (s *server) kills(why string) {
	s.mu.Lock()
	s.killing = why
	s.mu.Unlock()
}

// sigkill kills what runs; nil = nothing does.
func (s *server) sigkill() (*process, error) {
	p := s.running()
	if p == nil {
		found, err := s.look(true)
		if errors.Is(err, errNoProcess) {
			return s.departing(), nil
		}
		if err != nil {
			return nil, err
		}
		s.adopt(found)
		if p = s.running(); p == nil {
			return s.departing(), nil
		}
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return nil, fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	return p, nil
}

// wait waits until a process is gone.
func (s *server) wait(ctx context.Context, p *process) error {
	select {
	case <-p.gone:
		s.ended(p) // State says so by now
		return nil
	case <-s.stopped:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("process %d has not ended yet: %w", p.pid, ctx.Err())
	}
}

// stop ends the server in order.
func (s *server) stop(ctx context.Context, o mysqlha.Order) error {
	s.orders.Lock()
	err := s.admitRun(o)
	if err == nil {
		err = s.store.order(o, func(st *state) { st.Ended = "it was stopped by an order" })
	}
	p := s.running()
	if p == nil {
		p = s.departing()
	}
	if err == nil {
		s.clone.stop(fmt.Errorf("%w: it was told to stop", ErrClone))
		if p != nil {
			err = p.signal(unix.SIGTERM)
		}
	}
	s.orders.Unlock()
	if err != nil {
		return err
	}
	if p == nil {
		s.mu.Lock()
		if s.status != mysqlha.ProcessUnknown {
			s.status = mysqlha.ProcessStopped
		}
		s.mu.Unlock()
		return nil
	}
	return s.wait(ctx, p)
}
