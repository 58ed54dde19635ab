package lease

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Duties lists every duty of the group that is held, was held, or that a node says something of.
func (l *Lease) Duties(ctx context.Context) ([]Status, error) {
	a, err := l.client.ask(ctx, &asking{List: true}, untilDone)
	if err != nil {
		return nil, fmt.Errorf("list duties: %w", err)
	}
	return a.Duties, nil
}

// Explain tells who could hold a duty, who could not and why, and why who holds it does.
func (l *Lease) Explain(ctx context.Context, duty string) (Explanation, error) {
	a, err := l.client.ask(ctx, &asking{Explain: duty}, untilDone)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain duty: %w", err)
	}
	if a.Explain == nil {
		return Explanation{}, fmt.Errorf("explain duty %q: %w", duty, ErrNotFound)
	}
	return *a.Explain, nil
}

// Move hands a duty over to a node, and waits until that holds it or ctx ends; then it still goes on for some minutes.
func (l *Lease) Move(ctx context.Context, duty, node string) (Status, error) {
	if _, err := l.client.ask(ctx, &asking{Move: &moving{duty, node}}, untilDone); err != nil {
		return Status{}, err
	}
	for {
		e, err := l.Explain(ctx, duty)
		if err != nil {
			return Status{}, err
		}
		if e.Status.Node == node {
			return e.Status, nil
		}
		select {
		case <-ctx.Done():
			return e.Status, fmt.Errorf("move duty %q: it is not there yet: %w", duty, ctx.Err())
		case <-time.After(l.times.Tick):
		}
	}
}

// Voters tells which nodes vote, which catch up, and what is about to change.
func (l *Lease) Voters(ctx context.Context) (Voters, error) {
	a, err := l.client.ask(ctx, &asking{Config: true}, untilDone)
	if err != nil {
		return Voters{}, fmt.Errorf("list voters: %w", err)
	}
	if a.Config == nil {
		return Voters{}, fmt.Errorf("list voters: %w", ErrNotFound)
	}
	return *a.Config, nil
}

// WantedVoters is how many voters a datacenter of so many nodes should have.
func WantedVoters(nodes int) int { return wanted(nodes) }

// Drain has a node hand over all that it holds, and get nothing any more, until Undrain.
func (l *Lease) Drain(ctx context.Context, node, user, reason string) error {
	if _, err := l.client.ask(ctx, &asking{Op: op{Kind: opDrain, Node: node, User: user, Text: clip(reason)}.encode()}, untilDone); err != nil {
		return fmt.Errorf("drain node: %w", err)
	}
	return nil
}

// Undrain makes a node eligible again. ErrNotFound when it was not drained.
func (l *Lease) Undrain(ctx context.Context, node string) error {
	if _, err := l.operate(ctx, op{Kind: opUndrain, Node: node}); err != nil {
		return fmt.Errorf("undrain node: %w", err)
	}
	return nil
}

// Excuse says that a node will not claim what it owned, because it is gone: after a recovery, names and grants are made again
// when nobody owes a claim.
func (l *Lease) Excuse(ctx context.Context, node string) error {
	if _, err := l.operate(ctx, op{Kind: opExcuse, Node: node}); err != nil {
		return fmt.Errorf("excuse node: %w", err)
	}
	return nil
}

// Health is what this node knows of its part, for status and doctor.
type Health struct {
	Group     Group
	Known     bool
	Leader    string        // node it last heard from; "" = none
	Answered  time.Duration // ago; negative = never
	Serving   bool          // it takes part in raft
	Contact   time.Duration // since raft here heard its leader; 0 on the leader, negative where raft does not run
	Leads     bool
	Error     string // of the last renewal
	Alarm     string // of its directory
	Sick      string // its disk
	OwnedTwo  string // what was granted here, and is another node's by the group's word
	Holding   []Holding
	Offers    int
	Owing     bool
	Pending   bool
	Elsewhere bool // its group is of another datacenter than it is itself
}

// Holding is a duty that this node holds.
type Holding struct {
	Duty  string
	Fence uint64
	Since time.Time
	Left  time.Duration
}

// Health is local: it asks nobody.
func (l *Lease) Health() Health {
	h := Health{Answered: -1, Contact: -1}
	h.Group, h.Known = l.Group()
	h.Elsewhere = h.Known && h.Group.Datacenter != l.cfg.Datacenter
	l.mu.Lock()
	h.Alarm, h.Pending = cmp.Or(l.split, l.alarm), l.pending
	l.mu.Unlock()
	if err := l.disk.Sick(); err != nil {
		h.Sick = err.Error()
	}
	r, m := l.server.running()
	h.Serving = r != nil
	if m != nil {
		if err := m.failure(); err != nil {
			h.Alarm = err.Error()
		}
	}
	h.Leads = l.server.leading() != nil
	l.client.find.mu.Lock()
	h.Leader = l.client.find.leader
	l.client.find.mu.Unlock()
	switch {
	case h.Leads:
		h.Leader, h.Contact = l.cfg.NodeID, 0
	case r != nil:
		h.Contact = time.Since(r.LastContact()) // very long before the first time
		if addr, _ := r.LeaderWithID(); addr != "" {
			h.Leader = string(addr)
		}
	}
	c := l.client
	c.mu.Lock()
	if c.lastErr != nil {
		h.Error = c.lastErr.Error()
	}
	if c.lastGood > 0 {
		h.Answered = l.clock.Boot() - c.lastGood
	}
	for _, o := range c.offers {
		if o.offers() {
			h.Offers++
		}
	}
	c.mu.Unlock()
	for _, g := range l.Holding() {
		h.Holding = append(h.Holding, Holding{g.Duty, g.Fence, g.Since, g.Left()})
	}
	h.OwnedTwo = l.own.twice()
	h.Owing = l.own.owing(h.Group)
	return h
}
