package lease

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
)

// watchVoters brings the voters, one change at a time, to what electorate.next says, until the office is over.
func (o *office) watchVoters() {
	for {
		wait := 4 * o.l.times.Renew
		if o.step() {
			wait = o.l.times.Tick
		}
		select {
		case <-o.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// electorate is what the choice of voters follows from, as this leader sees it.
func (o *office) electorate() (electorate, error) {
	f := o.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return electorate{}, err
	}
	view := o.l.cfg.Mesh.View()
	datacenter := o.l.group().Datacenter
	now := o.l.clock.Boot()
	e := electorate{Leader: o.l.cfg.NodeID, Sick: view.MassSuspicion(), Times: o.l.times}
	progress := o.progress(f)
	member := map[string]bool{}
	for _, s := range f.Configuration().Servers {
		srv := server{Node: string(s.Address), RaftID: string(s.ID), Suffrage: learner}
		if s.Suffrage == raft.Voter {
			srv.Suffrage = voter
		}
		srv.Behind, srv.Void = progress(s)
		member[srv.Node] = true
		e.Servers = append(e.Servers, srv)
	}
	drained := map[string]bool{}
	o.m.read(func(s *state) {
		for n := range s.Drained {
			drained[n] = true
		}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	unfit, apart := map[string]string{}, map[string]string{}
	for _, s := range o.sessions {
		if s.unfit != "" {
			unfit[s.node] = s.unfit
		}
		if s.apart != "" {
			apart[s.node] = s.apart
		}
	}
	for _, m := range view.Members() {
		elsewhere := m.Datacenter != datacenter
		if elsewhere && !member[m.ID] {
			continue
		}
		alive := m.State == mesh.StateAlive
		was, ok := o.nodes[m.ID]
		if !ok || was.alive != alive {
			was = seenNode{alive: alive, since: now}
			if !ok {
				// What the mesh saw before this office counts, as far as it goes.
				was.since = now - max(o.l.clock.Now().Sub(m.Since), 0)
			}
			o.nodes[m.ID] = was
		}
		e.Nodes = append(e.Nodes, nodeState{
			ID: m.ID, Name: m.Name, Rack: m.Rack, Alive: alive, For: now - was.since, Left: m.State == mesh.StateLeft,
			Elsewhere: elsewhere, Drained: drained[m.ID], Unfit: unfit[m.ID], Apart: apart[m.ID],
		})
	}
	return e, nil
}

// step makes one change, and reports whether it did.
func (o *office) step() bool {
	e, err := o.electorate()
	if err != nil {
		return false
	}
	o.rename(e)
	c := e.next()
	o.mu.Lock()
	o.plan = c
	o.mu.Unlock()
	if c.Kind == changeNone {
		return false
	}
	if err := o.carryOut(c); err != nil {
		if o.ctx.Err() == nil {
			o.l.log.Warn("the voters cannot be changed now", "change", c.String(), "err", err)
		}
		return false
	}
	o.l.log.Info("voters changed", "change", changeNames[c.Kind], "node", c.Node, "why", c.Why)
	return true
}

const changeTimeout = 5 * time.Second

func (o *office) carryOut(c change) error {
	switch c.Kind {
	case changeAdd:
		s, err := o.tell(c.Node, serving{Group: o.l.group()})
		if err != nil {
			return err
		}
		if s.Version < formatVersion {
			return fmt.Errorf("node %s runs an older build: it cannot fold this group's entries", c.Node)
		}
		return o.raft.AddNonvoter(raft.ServerID(s.RaftID), raft.ServerAddress(c.Node), 0, changeTimeout).Error()
	case changePromote:
		return o.raft.AddVoter(raft.ServerID(c.RaftID), raft.ServerAddress(c.Node), 0, changeTimeout).Error()
	case changeRemove:
		if err := o.raft.RemoveServer(raft.ServerID(c.RaftID), 0, changeTimeout).Error(); err != nil {
			return err
		}
		go func() { _, _ = o.tell(c.Node, serving{Group: o.l.group(), Stop: c.RaftID}) }() // else it finds out itself
		return nil
	case changeLead:
		o.mu.Lock()
		o.leading = true
		o.mu.Unlock()
		err := o.raft.LeadershipTransferToServer(raft.ServerID(c.RaftID), raft.ServerAddress(c.Node)).Error()
		if err != nil {
			o.mu.Lock()
			o.leading = false
			o.mu.Unlock()
		}
		return err
	}
	return nil
}

// tell tells a node to take part in raft, or to stop.
func (o *office) tell(node string, s serving) (served, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.ctx), changeTimeout)
	defer cancel()
	b, err := o.l.cfg.Mesh.CallUrgent(ctx, node, callServe, must(encoding.Marshal(s)))
	if err != nil {
		return served{}, err
	}
	var a served
	if err := decoding.Unmarshal(b, &a); err != nil {
		return served{}, fmt.Errorf("decode answer of node %s: %w", node, err)
	}
	if a.RaftID == "" || len(a.RaftID) > maxKey {
		return served{}, fmt.Errorf("node %s names no raft id", node)
	}
	return a, nil
}

// progress asks each server how many entries it lacks, which raft does not tell, and whether it is still the one that raft counts on: a
// directory that was discarded leaves a vote that nobody casts.
func (o *office) progress(conf raft.ConfigurationFuture) func(raft.Server) (behind uint64, void bool) {
	ctx, cancel := context.WithTimeout(o.ctx, o.l.times.Renew)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	heard := map[raft.ServerID]whereabouts{}
	for _, s := range conf.Configuration().Servers {
		if string(s.Address) == o.l.cfg.NodeID {
			continue
		}
		wg.Go(func() {
			if w, err := o.l.where(ctx, string(s.Address)); err == nil {
				mu.Lock()
				heard[s.ID] = w
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	g, last := o.l.group(), o.raft.LastIndex()
	return func(s raft.Server) (uint64, bool) {
		if string(s.Address) == o.l.cfg.NodeID {
			return 0, false
		}
		w, ok := heard[s.ID]
		// It must have the entry that took it in, and so all before: with a short log, everybody lacks little.
		if !ok || w.Group.ID != g.ID || w.Group.epoch() != g.epoch() || w.RaftID != string(s.ID) || w.Last < conf.Index() {
			return caughtUp + 1, ok && w.Group.ID == g.ID && w.RaftID != "" && w.RaftID != string(s.ID)
		}
		return last - min(w.Last, last), false
	}
}

// rename follows a datacenter whose label was changed on all of its boxes: when no member carries the old one any more, and
// the voters agree on another.
func (o *office) rename(e electorate) {
	g := o.l.group()
	label := ""
	for i, s := range e.Servers {
		m, ok := o.l.cfg.Mesh.View().Get(s.Node)
		if !ok || i > 0 && m.Datacenter != label || m.Datacenter == g.Datacenter {
			return
		}
		label = m.Datacenter
	}
	for _, m := range o.l.cfg.Mesh.View().Members() {
		if m.Datacenter == g.Datacenter {
			return
		}
	}
	if _, err := o.propose(op{Kind: opRename, Text: label}); err == nil {
		o.l.log.Info("the lease group follows its datacenter's new name", "was", g.Datacenter, "is", label)
		g.Datacenter = label
		o.l.learn(g, true)
	}
}

// voters is the configuration, for people.
func (o *office) voters() (*Voters, error) {
	e, err := o.electorate()
	if err != nil {
		return nil, err
	}
	v := &Voters{Leader: o.l.cfg.NodeID, Term: o.term, Index: o.raft.LastIndex()}
	for _, s := range e.Servers {
		v.Servers = append(v.Servers, Server{Node: s.Node, RaftID: s.RaftID, Voter: s.Suffrage == voter, Behind: s.Behind})
	}
	o.mu.Lock()
	if o.plan.Kind != changeNone {
		v.Want = o.plan.String()
	}
	o.mu.Unlock()
	o.m.read(func(s *state) {
		v.Owing = slices.Sorted(maps.Keys(s.Owing))
		load := map[string]int{}
		for _, d := range s.Duties {
			load[d.Node]++
		}
		for _, n := range slices.Sorted(maps.Keys(s.Drained)) {
			d := s.Drained[n]
			v.Drained = append(v.Drained, Drain{Node: n, By: d.By, Reason: d.Reason, At: d.At, Holds: load[n]})
		}
	})
	return v, nil
}
