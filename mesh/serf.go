package mesh

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/coordinate"
	"github.com/hashicorp/serf/serf"
)

const (
	// forEver is for the timeouts after which serf would forget a member by itself. We never do. It also makes a reap
	// event mean one thing: somebody removed the member.
	forEver = 100 * 365 * 24 * time.Hour
	// eventQueue holds what serf says while the View is made. serf's own relay holds 1024 more; with this many free
	// places it can always empty itself and end, even when nobody reads any more.
	eventQueue = 4096
	// coordEvery is how often distances are looked at. They move slowly.
	coordEvery = 10 * time.Second
)

// tuneGossip sets the failure detection. The package comment has the table and the times that follow from it.
func tuneGossip(c *memberlist.Config) {
	// A dead member is probed within (members-1) intervals, but by all others at once in turn, so in a small mesh the
	// interval rules the detection. Two pings a second cost nothing.
	c.ProbeInterval = 500 * time.Millisecond
	// Round trips in a datacenter are below 1 ms; the rest is for a peer that waits for its processor.
	c.ProbeTimeout = 300 * time.Millisecond
	// Others may reach whom we cannot; three are asked, and TCP is tried, before anybody is suspected.
	c.IndirectChecks = 3
	// A suspect has at least 4 x 0.5 s to say that it lives: a pause of the processor, or of the garbage collector, of
	// less than two seconds is no death. 3 would save half a second and cost false alarms on loaded boxes.
	c.SuspicionMult = 4
	// Without others who agree we wait up to six times as long: it may be our own line. It does not apply below four
	// members, where nobody else is left to agree.
	c.SuspicionMaxTimeoutMult = 6
	// A node that notices its own slowness stretches its probes up to 4 s (8 x 0.5 s) and accuses less.
	c.AwarenessMaxMultiplier = 8
	// News reach three members every 100 ms: a suspicion, and its refutation, are everywhere well within two seconds.
	c.GossipInterval = 100 * time.Millisecond
	c.GossipNodes = 3
	c.RetransmitMult = 4
	// The dead are told so for a while: one that lives after all hears it and objects.
	c.GossipToTheDeadTime = 30 * time.Second
	// The full exchange repairs what gossip lost. memberlist itself stretches it beyond 32 members.
	c.PushPullInterval = 15 * time.Second
	// Full exchanges are a few hundred bytes for each member; what takes longer than this is dead.
	c.TCPTimeout = 5 * time.Second
	// A member that returns under another address is taken in again once it is dead for so long.
	c.DeadNodeReclaimTime = 30 * time.Second
	// A mesh that starts all at once says much at once.
	c.HandoffQueueDepth = 4096
	// Messages are small, and encrypted ones do not shrink: LZW would only burn processor.
	c.EnableCompression = false
}

// serfConfig returns the configuration of serf for a mesh whose id is known.
func (m *Mesh) serfConfig(events chan<- serf.Event) *serf.Config {
	// Their DefaultConfig would also ask for the host name, which may hang where it is looked up; it is not used.
	ml := memberlist.DefaultLANConfig()
	tuneGossip(ml)
	ml.Transport = m.transport
	ml.BindAddr, ml.BindPort = m.cfg.Addr.String(), int(m.cfg.GossipPort)
	ml.AdvertiseAddr, ml.AdvertisePort = ml.BindAddr, ml.BindPort
	ml.SecretKey = m.cfg.Key.Derive(LabelGossip, 32)
	ml.Label = m.label
	ml.Logger = m.gossipLog

	c := serf.DefaultConfig()
	c.NodeName = m.cfg.NodeID
	c.Tags = encodeTags(&m.cfg, m.cfg.StreamPort)
	c.MemberlistConfig = ml
	c.Logger, c.LogOutput = m.gossipLog, nil
	c.EventCh = events
	c.Merge = (*gate)(m)
	c.ValidateNodeNames = true
	c.EnableNameConflictResolution = false // ids do not clash; a copied data directory is told by the owner
	c.RejoinAfterLeave = true
	c.MinQueueDepth = 4096
	c.ReconnectInterval = forEver // redial does it, for members that serf never saw as well
	c.ReconnectTimeout = forEver
	c.TombstoneTimeout = forEver
	c.CoalescePeriod, c.QuiescentPeriod = 0, 0
	// Leave waits twice for the first (serf's goodbye, then memberlist's) and then for the second, so that all stays within
	// LeaveTimeout. Remove waits for the first as well: a broadcast is out after a few gossip intervals.
	c.BroadcastTimeout = 2 * time.Second
	if m.cfg.LeaveTimeout > 0 {
		c.BroadcastTimeout = max(m.cfg.LeaveTimeout/3, 300*time.Millisecond)
	}
	c.LeavePropagateDelay = max(min(m.cfg.LeaveTimeout/10, 300*time.Millisecond), 0)
	return c
}

// gate keeps strangers out. serf asks it for each alive message (with one member), and for each full exchange at a join
// (with all members of the other side).
type gate Mesh

// NotifyMerge refuses members of another mesh. It is called with memberlist's lock held, and must not call back.
func (g *gate) NotifyMerge(members []*serf.Member) error {
	for _, s := range members {
		if s.Name == g.cfg.NodeID {
			continue
		}
		ip, _ := netip.AddrFromSlice(s.Addr)
		addr := netip.AddrPortFrom(ip.Unmap(), s.Port)
		if s.Tags[tagMesh] != g.cfg.MeshID {
			g.refuse.refuse(addr, refuseMesh, "node", clip(s.Name), "mesh", clip(s.Tags[tagMesh]))
			return fmt.Errorf("%w: node %s at %s", ErrOtherMesh, clip(s.Name), addr)
		}
		// What follows is about one member, and no reason to refuse all that came with it.
		if len(members) > 1 {
			continue
		}
		if g.peers.isRemoved(s.Name) {
			g.refuse.refuse(addr, refuseRemoved, "node", s.Name)
			return fmt.Errorf("%w: %s at %s", ErrRemoved, s.Name, addr)
		}
		// Our successor understands us; its successor says so itself by not letting us in.
		if v, err := strconv.Atoi(s.Tags[tagProtocol]); err != nil || v < ProtocolMin || !validID(s.Name) {
			g.refuse.refuse(addr, refuseProtocol, "node", clip(s.Name), "version", clip(s.Tags[tagProtocol]))
			return fmt.Errorf("%w: node %s at %s speaks %q", errVersion, clip(s.Name), addr, clip(s.Tags[tagProtocol]))
		}
	}
	return nil
}

// follow turns serf's events into Views until ctx ends. It does nothing that waits: serf holds its locks meanwhile.
func (m *Mesh) follow(ctx context.Context, events <-chan serf.Event) {
	for {
		var batch []serf.MemberEvent
		take := func(e serf.Event) {
			if me, ok := e.(serf.MemberEvent); ok {
				batch = append(batch, me)
			}
		}
		select {
		case e := <-events:
			take(e)
		case <-ctx.Done():
			return
		}
		// A mesh that starts sends many events at once: one View for all that are there.
		for more := true; more; {
			select {
			case e := <-events:
				take(e)
			default:
				more = false
			}
		}
		m.apply(batch)
	}
}

// apply enters events and tells the other parts of what they mean.
func (m *Mesh) apply(batch []serf.MemberEvent) {
	now := m.cfg.Clock.Now()
	m.board.change(func(members map[string]Member) (changed bool) {
		for _, e := range batch {
			for _, s := range e.Members {
				if s.Name == m.cfg.NodeID || !validID(s.Name) {
					continue
				}
				old, known := members[s.Name]
				if e.Type == serf.EventMemberReap {
					delete(members, s.Name)
					m.forget(s.Name, now)
					changed = changed || known
					continue
				}
				if m.peers.isRemoved(s.Name) {
					continue
				}
				x := memberOf(s)
				switch e.Type {
				case serf.EventMemberLeave:
					x.State = StateLeft
				case serf.EventMemberFailed:
					x.State = StateFailed
				case serf.EventMemberUpdate:
					x.State = old.State
				default:
					x.State = StateAlive
				}
				x.Since = old.Since
				if !known || x.State != old.State {
					x.Since = now
					m.tell(x, old)
				}
				m.peers.see(x)
				if !known || x != old {
					members[s.Name], changed = x, true
				}
			}
		}
		return changed
	})
	poke(m.redialPoke)
}

// tell logs a change of state and lets the streams follow. Closing connections must not hold up serf's events.
func (m *Mesh) tell(now, old Member) {
	m.log.Info("member "+now.State.String(), "node", now.ID, "name", now.Name, "addr", now.Gossip().String(), "before", old.State.String())
	switch now.State {
	case StateAlive:
		m.refuse.forget(now.Addr)
		m.streams.back(now.ID)
	case StateFailed, StateLeft:
		go m.streams.drop(now.ID)
	}
}

// forget drops a member that was removed, here or elsewhere.
func (m *Mesh) forget(id string, now time.Time) {
	if !m.peers.isRemoved(id) {
		m.log.Warn("member removed", "node", id)
	}
	m.peers.remove(id, now)
	go m.streams.forget(id)
}

// measure keeps distances fresh, and ends a mass suspicion when its time is over.
func (m *Mesh) measure(ctx context.Context, s *serf.Serf) {
	next := time.Second // a joiner wants its first distances soon
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.cfg.Clock.After(next):
		}
		members := m.View().Members()
		next = coordEvery
		switch {
		case failingNow(members, m.cfg.Clock.Now()) || m.View().MassSuspicion():
			next = time.Second
		case slices.ContainsFunc(members, func(x Member) bool { return x.State == StateAlive && !x.Self && x.RTT == 0 }):
			next = 3 * time.Second
		}
		coords := make(map[string]*coordinate.Coordinate, len(members))
		for _, x := range members {
			if c, ok := s.GetCachedCoordinate(x.ID); ok {
				coords[x.ID] = c
			}
		}
		if c, err := s.GetCoordinate(); err == nil {
			coords[m.cfg.NodeID] = c
		}
		m.board.setCoords(coords)
	}
}
