package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
	"hostmesh/mesh/lease/raftdisk"
)

// part is this node's part in raft, if it has one: voter, learner, leader.
type part struct {
	l *Lease

	change chan struct{} // one slot, taken while raft is started or stopped: that may take a while
	mu     sync.Mutex    // guards the fields below
	r      *raft.Raft
	epoch  uint64 // of the group that r is of
	trans  *Transport
	m      *machine
	office *office
	former *office         // the last one of r; nil = there was none
	ctx    context.Context // of run; nil before
	wg     sync.WaitGroup
	over   bool
}

func newPart(l *Lease) *part { return &part{l: l, change: make(chan struct{}, 1)} }

// alter waits for its turn to start or stop raft.
func (p *part) alter() (done func()) {
	p.change <- struct{}{}
	return func() { <-p.change }
}

// Raft's settings beside Times.
const (
	commitTimeout     = 500 * time.Millisecond // followers need not know at once what was committed: nobody reads from them
	snapshotThreshold = 4096                   // entries: a few hundred kilobytes of log
	trailingLogs      = 2048                   // what a voter may lack and still be served from the log
	snapshotInterval  = 2 * time.Minute
)

// running is raft, if it runs here.
func (p *part) running() (*raft.Raft, *machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.r, p.m
}

func (p *part) serving() bool {
	r, _ := p.running()
	return r != nil
}

func (p *part) leading() *office {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.office
}

// run starts raft when there is something to start, and keeps it until ctx ends.
func (p *part) run(ctx context.Context) {
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	if err := p.resume(); err != nil {
		p.l.log.Error("raft does not start: this node is no voter", "err", err)
		p.l.setAlarm(fmt.Sprintf("raft does not start: %v", err))
	}
	tick := time.NewTicker(p.l.times.Hold)
	defer tick.Stop()
	for sick := false; ; {
		select {
		case <-ctx.Done():
			p.stop()
			p.wg.Wait()
			return
		case <-tick.C:
		}
		was := sick
		if sick = p.l.disk.Sick() != nil; was && !sick {
			// After a write that failed raft is wrong about what its log ends with; what it reads from the disk is right.
			p.l.log.Info("raft's files can be written again: raft starts anew")
			p.restart()
		}
	}
}

func (p *part) restart() {
	defer p.alter()()
	if !p.serving() {
		return
	}
	err := p.stopLocked()
	if err == nil {
		err = p.startLocked(p.l.group())
	}
	if err != nil {
		p.l.log.Error("raft does not start again", "err", err)
		p.l.setAlarm(fmt.Sprintf("raft does not start: %v", err))
	}
}

// resume goes on where the directory left off, or founds the group that it is to found.
func (p *part) resume() error {
	state, err := p.l.disk.HasState()
	if err != nil {
		return err
	}
	g, known := p.l.disk.Group()
	switch {
	case p.l.disk.Pending():
		return p.found(Group(g))
	case state && known:
		return p.start()
	case state:
		return p.l.disk.Reset("there is raft state of a group that nobody named")
	}
	return nil
}

// found begins a group with this node as its only voter. It may be repeated until it is recorded as done.
func (p *part) found(g Group) error {
	state, err := p.l.disk.HasState()
	if err != nil {
		return err
	}
	if !state {
		trans, err := p.transport(g)
		if err != nil {
			return fmt.Errorf("found lease group: %w", err)
		}
		err = raft.BootstrapCluster(p.config(), p.l.disk.Logs(), p.l.disk.Stable(), p.l.disk.Snapshots(), trans, p.alone())
		_ = trans.Close()
		if err != nil {
			return fmt.Errorf("found lease group: %w", err)
		}
	}
	if err := p.l.disk.Bootstrapped(); err != nil {
		return fmt.Errorf("found lease group: %w", err)
	}
	if err := p.l.own.belong(g); err != nil {
		return fmt.Errorf("found lease group: %w", err)
	}
	p.l.mu.Lock()
	p.l.known, p.l.pending = g, false
	p.l.mu.Unlock()
	p.l.log.Info("lease group founded", "group", g.ID, "datacenter", g.Datacenter, "home", g.Home)
	return p.start()
}

func (p *part) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(p.l.disk.RaftID())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = p.l.times.Election, p.l.times.Election, p.l.times.Lease
	c.CommitTimeout = commitTimeout
	c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = snapshotThreshold, trailingLogs, snapshotInterval
	c.ShutdownOnRemove = false // what becomes of it is decided here
	c.NoLegacyTelemetry = true
	c.Logger = newRaftLog(p.l.log, nil)
	return c
}

func (p *part) transport(g Group) (*Transport, error) {
	return OpenTransport(TransportConfig{
		Mesh: p.l.cfg.Mesh, NodeID: p.l.cfg.NodeID, ServerID: raft.ServerID(p.l.disk.RaftID()), Group: g.ID, Generation: g.epoch(),
		OnGeneration: p.l.laterGeneration, Silent: p.silent, Logger: p.l.log,
	})
}

// silent is why this node must not ask for votes, nor go on as a leader.
func (p *part) silent() error {
	if _, m := p.running(); m != nil && m.failure() != nil {
		return m.failure()
	}
	return p.l.disk.Sick()
}

// start runs raft on what the directory holds.
func (p *part) start() error {
	defer p.alter()()
	return p.startLocked(p.l.group())
}

func (p *part) startLocked(g Group) error {
	p.mu.Lock()
	ctx, running, over, epoch := p.ctx, p.r != nil, p.over, p.epoch
	p.mu.Unlock()
	if over || ctx == nil || running && epoch == g.epoch() {
		return nil
	}
	if running { // of a generation that is over
		if err := p.stopLocked(); err != nil {
			return err
		}
	}
	trans, err := p.transport(g)
	if err != nil {
		return err
	}
	m := newMachine()
	r, err := raft.NewRaft(p.config(), m, p.l.disk.Logs(), p.l.disk.Stable(), p.l.disk.Snapshots(), trans)
	if err != nil {
		_ = trans.Close()
		return fmt.Errorf("start raft: %w", err)
	}
	p.mu.Lock()
	p.r, p.m, p.trans, p.epoch = r, m, trans, g.epoch()
	p.mu.Unlock()
	p.l.counts.restarts.Add(1)
	p.wg.Go(func() { p.follow(ctx, r, m) })
	return nil
}

// follow takes office whenever raft says that this node leads, and leaves it when that is over.
func (p *part) follow(ctx context.Context, r *raft.Raft, m *machine) {
	for {
		select {
		case <-ctx.Done():
			return
		case leads, ok := <-r.LeaderCh():
			if !ok {
				return
			}
			if !leads {
				continue
			}
		case <-time.After(p.l.times.Election):
			if r.State() == raft.Shutdown {
				return
			}
			if r.State() != raft.Leader || p.leading() != nil {
				continue
			}
		}
		p.serve(ctx, r, m)
	}
}

const mostAsked = 32 // members that a new leader asks for a later generation

// serve is one office.
func (p *part) serve(ctx context.Context, r *raft.Raft, m *machine) {
	term := r.CurrentTerm()
	// A voter that was away may lead a generation that is over: who knows of a later one is heard first, as far as somebody is there.
	p.l.askSome(ctx, mostAsked, p.l.times.Renew/2)
	// All that former leaders acknowledged is folded before anybody is answered.
	if err := r.Barrier(5 * p.l.times.Election).Error(); err != nil {
		p.l.log.Debug("no office", "err", err)
		return
	}
	if r.CurrentTerm() != term || r.State() != raft.Leader {
		return
	}
	if err := m.failure(); err != nil {
		p.l.log.Error("this node cannot lead the lease group", "err", err)
		_ = r.LeadershipTransfer().Error() // if there is nobody else, there is nobody
		return
	}
	began, err := p.beginGeneration(r, m)
	if err != nil {
		p.l.log.Debug("no office", "err", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	before := p.former
	p.mu.Unlock()
	if began {
		before = nil
	}
	o := newOffice(ctx, p.l, r, m, term, before)
	if began || p.l.group().Generation > 1 && !o.grantedBefore() { // holders of the former generation may act until their time is over
		o.notBefore = o.since + p.l.times.Session
	}
	p.l.counts.offices.Add(1)
	p.l.log.Info("this node leads the lease group", "term", term)
	p.mu.Lock()
	p.office, p.former = o, o
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(o.run)
	p.l.client.hurry()
	tick := time.NewTicker(p.l.times.Election)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case leads, ok := <-r.LeaderCh():
			over = !ok || !leads
		case <-tick.C: // the channel keeps only the last word
			over = r.State() != raft.Leader || r.CurrentTerm() != term
		case <-ctx.Done():
			over = true
		}
	}
	p.mu.Lock()
	if p.office == o {
		p.office = nil
	}
	p.mu.Unlock()
	cancel()
	wg.Wait()
	p.l.log.Info("this node does not lead the lease group any more", "term", term)
}

// stop ends raft. A disk that does not answer does not hold it up.
func (p *part) stop() {
	defer p.alter()()
	_ = p.stopLocked() // it was told
}

func (p *part) stopLocked() error {
	p.mu.Lock()
	r, trans := p.r, p.trans
	p.r, p.m, p.trans, p.office, p.former = nil, nil, nil, nil, nil
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		_ = r.Shutdown().Error()
		close(done)
	}()
	_ = trans.Close()
	select {
	case <-done:
		return nil
	case <-time.After(5 * time.Second):
		p.l.log.Warn("raft does not stop: the disk does not answer", "dir", p.l.cfg.Dir)
		return fmt.Errorf("raft does not stop: the disk of %s does not answer; restart the agent when it does", p.l.cfg.Dir)
	}
}

// leave hands the leadership over before the agent stops, so that nobody waits for an election.
func (p *part) leave() {
	r, _ := p.running()
	if r == nil || r.State() != raft.Leader {
		return
	}
	if o := p.leading(); o != nil {
		o.mu.Lock()
		o.leading = true
		o.mu.Unlock()
	}
	if n, err := voters(r); err == nil && len(n) > 1 {
		if err := r.LeadershipTransfer().Error(); err != nil {
			p.l.log.Debug("leadership was not handed over", "err", err)
		}
	}
}

func (p *part) close() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.stop()
}

// retire ends this node's part for good: it was taken out, or its group has gone on without it.
func (p *part) retire(raftID, why string) {
	defer p.alter()()
	if raftID != p.l.disk.RaftID() {
		return // it was said of a part that is over already
	}
	if err := p.stopLocked(); err != nil {
		p.l.setAlarm(err.Error())
		return
	}
	if has, err := p.l.disk.HasState(); err == nil && !has {
		return
	}
	g := p.l.group()
	if err := p.l.disk.Reset(why); err != nil {
		p.l.log.Error("raft's files are not put aside", "err", err)
		return
	}
	p.l.keep(g)
	p.l.log.Info("this node takes no part in raft any more", "reason", why)
}

// serveServe is the leader's word that this node is to take part, or no longer.
func (p *part) serveServe(ctx context.Context, from mesh.Caller, b []byte) ([]byte, error) {
	var s serving
	if err := decoding.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if !p.l.learn(s.Group, true) {
		return nil, fmt.Errorf("group %s generation %d is not that of this node", clip(s.Group.ID), s.Group.Generation)
	}
	if s.Stop != "" {
		if s.Stop == p.l.disk.RaftID() {
			go p.retire(s.Stop, "the leader took this node out")
		}
		return encoding.Marshal(served{RaftID: p.l.disk.RaftID(), Version: formatVersion})
	}
	if err := p.l.disk.Sick(); err != nil {
		return nil, fmt.Errorf("this node cannot be a voter: %w", err)
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	return encoding.Marshal(served{RaftID: p.l.disk.RaftID(), Version: formatVersion})
}

// serveConfirm tells the term that this voter is in.
func (p *part) serveConfirm(ctx context.Context, from mesh.Caller, b []byte) ([]byte, error) {
	var c confirming
	if err := decoding.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	g := p.l.group()
	r, _ := p.running()
	if r == nil || c.Group != g.ID || c.Epoch != g.epoch() {
		return nil, errors.New("this node does not vote in that group")
	}
	return encoding.Marshal(confirmed{Term: r.CurrentTerm(), RaftID: p.l.disk.RaftID()})
}

// voters are raft's servers with a vote.
func voters(r *raft.Raft) (list []raft.Server, err error) {
	f := r.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, err
	}
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			list = append(list, s)
		}
	}
	return list, nil
}

// recover begins a generation with this node as its only voter, from what it has. It may be repeated after a crash: the generation is
// written down first, so that what is half done votes in neither.
func (p *part) recover(g Group) error {
	defer p.alter()()
	if err := p.stopLocked(); err != nil {
		return err
	}
	has, err := p.l.disk.HasState()
	if err != nil {
		return err
	}
	if !has {
		if err := p.l.disk.Reset("the group is recovered here"); err != nil {
			return err
		}
	}
	if err := p.l.disk.SetGroup(raftdisk.Group(g)); err != nil {
		return err
	}
	trans, err := p.transport(g)
	if err != nil {
		return err
	}
	if has {
		err = raft.RecoverCluster(p.config(), newMachine(), p.l.disk.Logs(), p.l.disk.Stable(), p.l.disk.Snapshots(), trans, p.alone())
	} else {
		err = raft.BootstrapCluster(p.config(), p.l.disk.Logs(), p.l.disk.Stable(), p.l.disk.Snapshots(), trans, p.alone())
	}
	_ = trans.Close()
	if err != nil {
		return err
	}
	// Nobody hears of the generation before it is one.
	if err := p.l.own.belong(g); err != nil {
		return err
	}
	p.l.mu.Lock()
	p.l.known, p.l.split = g, ""
	p.l.mu.Unlock()
	p.l.client.dropAll(fmt.Errorf("%w: generation %d of the group began", ErrLost, g.Generation))
	return p.startLocked(g)
}

// alone is the configuration of a group whose only voter is this node.
func (p *part) alone() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(p.l.disk.RaftID()), Address: raft.ServerAddress(p.l.cfg.NodeID),
	}}}
}

// beginGeneration writes the group's generation into a state that is of an earlier one, before anything else is. It reports whether
// it did.
func (p *part) beginGeneration(r *raft.Raft, m *machine) (bool, error) {
	g := p.l.group()
	var has uint64
	m.read(func(s *state) { has = s.Generation })
	if has >= g.Generation {
		return false, nil
	}
	o := op{Kind: opRecover, Generation: g.Generation, Wall: millis(p.l.clock.Now()), Term: r.CurrentTerm()}
	for _, n := range p.l.cfg.Mesh.View().Members() {
		if n.Datacenter == p.l.cfg.Datacenter {
			o.Nodes = append(o.Nodes, n.ID)
		}
	}
	return true, r.Apply(o.encode(), p.l.times.Hold).Error()
}
