package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/node/api"
)

// duties implements api.Duties on the lease.
type duties struct{ *Agent }

// dutyError is an error of the lease for people, with the kind that the API knows it by; nil = none.
type dutyError struct {
	text string
	err  error
	kind error
}

func (e *dutyError) Error() string        { return e.text }
func (e *dutyError) Unwrap() error        { return e.err }
func (e *dutyError) Is(target error) bool { return e.kind != nil && target == e.kind }

// of sorts an error of the lease, adds what to do, and names nodes as people do.
func (d duties) of(err error) error {
	if err == nil {
		return nil
	}
	var kind error
	remedy := ""
	switch {
	case errors.Is(err, lease.ErrNoGroup):
		kind, remedy = api.ErrNoDuties, "if this datacenter has none yet, found one on one of its nodes, once: hostmesh duties found"
	case errors.Is(err, lease.ErrHasGroup):
		kind = api.ErrDutyConflict
	case errors.Is(err, lease.ErrQuorum):
		kind, remedy = api.ErrDutyConflict, "see hostmesh duties voters"
	case errors.Is(err, lease.ErrIneligible):
		kind, remedy = api.ErrDutyConflict, "see hostmesh duties explain DUTY"
	case errors.Is(err, lease.ErrConflict), errors.Is(err, lease.ErrTaken), errors.Is(err, lease.ErrRecovering), errors.Is(err, lease.ErrFull):
		kind = api.ErrDutyConflict
	case errors.Is(err, lease.ErrUnknown):
		kind, remedy = api.ErrNoDuties, "look at the duties before it is done again"
	case errors.Is(err, lease.ErrNoLeader):
		kind, remedy = api.ErrNoDuties, api.RemedyNoLeader
	case errors.Is(err, lease.ErrNotFound):
		kind = api.ErrNotFound
	case errors.Is(err, lease.ErrInvalid):
		kind = hostdb.ErrInvalid
	case errors.Is(err, lease.ErrClosed):
		kind, remedy = api.ErrNoDuties, "the agent stops"
	}
	text := err.Error()
	if remedy != "" {
		text += ": " + remedy
	}
	if d.mesh != nil {
		text = namesIn(d.mesh.View(), text)
	}
	return &dutyError{text, err, kind}
}

// open is the lease, or why there is none.
func (d duties) open() (*lease.Lease, error) {
	if d.lease == nil {
		text := fmt.Sprintf("this node takes no part in duties: %v: %s", d.leaseErr, leaseRemedy(d.leaseErr))
		return nil, &dutyError{text, d.leaseErr, api.ErrNoDuties}
	}
	return d.lease, nil
}

// at is a moment of the lease; nil for none.
func at(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

func dutyOf(mv mesh.View, s lease.Status) api.Duty {
	name := nodeName(mv, s.Node)
	if name == "" {
		name = s.Name
	}
	return api.Duty{
		Duty: s.Duty, Node: s.Node, Name: name, Fence: s.Fence, Since: at(s.Since), Why: namesIn(mv, s.Why), Last: s.Last, LastName: nodeName(mv, s.Last),
		Candidates: s.Candidates, HandOver: namesIn(mv, s.Over), HandOverMS: s.OverMS, To: s.To, ToName: nodeName(mv, s.To),
	}
}

// namesIn replaces ids of members by their names.
func namesIn(mv mesh.View, text string) string {
	return namedNodes(text, func(id string) string {
		if name := nodeName(mv, id); name != "" {
			return name
		}
		return id
	})
}

// Duties implements api.Duties.
func (d duties) Duties(ctx context.Context) (api.DutyList, error) {
	l, err := d.open()
	if err != nil {
		return api.DutyList{}, err
	}
	list, err := l.Duties(ctx)
	if err != nil {
		return api.DutyList{}, d.of(err)
	}
	mv := d.mesh.View()
	g, _ := l.Group()
	leader := l.Health().Leader
	out := api.DutyList{Group: dutyGroup(g), Leader: leader, LeaderName: nodeName(mv, leader)}
	for _, s := range list {
		out.Duties = append(out.Duties, dutyOf(mv, s))
	}
	return out, nil
}

// ExplainDuty implements api.Duties.
func (d duties) ExplainDuty(ctx context.Context, duty string) (api.DutyExplanation, error) {
	l, err := d.open()
	if err != nil {
		return api.DutyExplanation{}, err
	}
	e, err := l.Explain(ctx, duty)
	if err != nil {
		return api.DutyExplanation{}, d.of(err)
	}
	mv := d.mesh.View()
	out := api.DutyExplanation{Duty: dutyOf(mv, e.Status), Leader: e.Leader, LeaderName: nodeName(mv, e.Leader)}
	said := map[string]bool{}
	for _, r := range e.Ranks {
		name := nodeName(mv, r.Node)
		if name == "" {
			name = r.Name
		}
		said[r.Node] = true
		out.Nodes = append(out.Nodes, api.DutyRank{Node: r.Node, Name: name, Class: r.Class, Reason: namesIn(mv, r.Reason), Holds: r.Holds, Holder: r.Holder})
	}
	for m := range mv.Alive() {
		if m.Datacenter == d.cfg.Labels.Datacenter && !said[m.ID] {
			out.Silent++
		}
	}
	return out, nil
}

// newLeader is how long a leader that has just begun may not have heard yet what every node offers.
const newLeader = 2 * time.Second

// MoveDuty implements api.Duties.
func (d duties) MoveDuty(ctx context.Context, who api.Identity, duty, node string) (api.Duty, error) {
	l, m, err := d.named(node)
	if err != nil {
		return api.Duty{}, err
	}
	s, err := l.Move(ctx, duty, m.ID)
	for began := time.Now(); (errors.Is(err, lease.ErrIneligible) || errors.Is(err, lease.ErrNotFound)) && time.Since(began) < newLeader && pause(ctx, newLeader/8); {
		s, err = l.Move(ctx, duty, m.ID)
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, lease.ErrNoLeader) && !errors.Is(err, lease.ErrNoGroup) {
			err = fmt.Errorf("%w; it goes on for some minutes: see hostmesh duties", err)
		}
		return api.Duty{}, d.of(err)
	}
	d.log.Info("duty moved", "duty", duty, "to", m.ID, "name", m.Name, "user", who.User)
	return dutyOf(d.mesh.View(), s), nil
}

// named finds a node by its id or name.
func (d duties) named(node string) (*lease.Lease, mesh.Member, error) {
	l, err := d.open()
	if err != nil {
		return nil, mesh.Member{}, err
	}
	m, err := d.removals().find(node)
	return l, m, err
}

// Voters implements api.Duties.
func (d duties) Voters(ctx context.Context) (api.DutyVoters, error) {
	l, err := d.open()
	if err != nil {
		return api.DutyVoters{}, err
	}
	v, err := l.Voters(ctx)
	if err != nil {
		return api.DutyVoters{}, d.of(err)
	}
	mv := d.mesh.View()
	g, _ := l.Group()
	out := api.DutyVoters{
		Group: dutyGroup(g), Leader: v.Leader, LeaderName: nodeName(mv, v.Leader), Term: v.Term, Index: v.Index, Next: namesIn(mv, v.Want),
	}
	for _, s := range v.Servers {
		x := api.DutyVoter{Node: s.Node, Name: nodeName(mv, s.Node), Voter: s.Voter, Behind: s.Behind}
		if m, ok := mv.Get(s.Node); ok {
			x.State = m.State.String()
		}
		out.Voters = append(out.Voters, x)
	}
	for _, id := range v.Owing {
		out.Owing = append(out.Owing, api.NodeName{ID: id, Name: nodeName(mv, id)})
	}
	for _, x := range v.Drained {
		out.Drained = append(out.Drained, api.DrainedNode{Node: x.Node, Name: nodeName(mv, x.Node), By: x.By, Reason: x.Reason, At: at(x.At), Holds: x.Holds})
	}
	return out, nil
}

// FoundDuties implements api.Duties.
func (d duties) FoundDuties(ctx context.Context, who api.Identity, how api.FoundDuties) (api.DutyGroup, error) {
	l, err := d.open()
	if err != nil {
		return api.DutyGroup{}, err
	}
	g, err := l.Found(ctx, how.Home, how.Force)
	if err != nil {
		return api.DutyGroup{}, d.of(err)
	}
	d.log.Warn("lease group founded by a person", "group", g.ID, "datacenter", g.Datacenter, "home", g.Home, "user", who.User, "force", how.Force)
	return dutyGroup(g), nil
}

// RecoverDuties implements api.Duties.
func (d duties) RecoverDuties(ctx context.Context, who api.Identity, force bool) (api.DutyGroup, error) {
	l, err := d.open()
	if err != nil {
		return api.DutyGroup{}, err
	}
	g, err := l.Recover(ctx, force)
	if err != nil {
		return api.DutyGroup{}, d.ofRecovery(err)
	}
	d.log.Warn("lease group recovered by a person", "group", g.ID, "generation", g.Generation, "user", who.User, "force", force)
	return dutyGroup(g), nil
}

// ofRecovery is of for a recovery, which is refused for reasons that have no sentinel: another voter has more.
func (d duties) ofRecovery(err error) error {
	out := d.of(err)
	if e, ok := out.(*dutyError); ok && e.kind == nil && !errors.Is(err, context.DeadlineExceeded) {
		e.kind = api.ErrDutyConflict
	}
	return out
}

// ExcuseNode implements api.Duties.
func (d duties) ExcuseNode(ctx context.Context, who api.Identity, node string) (api.NodeName, error) {
	l, m, err := d.named(node)
	if err != nil {
		return api.NodeName{}, err
	}
	if err := l.Excuse(ctx, m.ID); err != nil {
		return api.NodeName{}, d.of(err)
	}
	d.log.Warn("node excused: what it owned may be given to others", "node", m.ID, "name", m.Name, "user", who.User)
	return api.NodeName{ID: m.ID, Name: m.Name}, nil
}

// DrainNode implements api.Duties.
func (d duties) DrainNode(ctx context.Context, who api.Identity, node, reason string) (api.DrainedNode, error) {
	l, m, err := d.named(node)
	if err != nil {
		return api.DrainedNode{}, err
	}
	if err := l.Drain(ctx, m.ID, who.User, reason); err != nil {
		return api.DrainedNode{}, d.of(err)
	}
	d.log.Info("node drained", "node", m.ID, "name", m.Name, "user", who.User, "reason", reason)
	out := api.DrainedNode{Node: m.ID, Name: m.Name, By: who.User, Reason: reason}
	list, err := l.Duties(ctx)
	if err != nil {
		return api.DrainedNode{}, d.of(fmt.Errorf("the node is drained; what it holds is not known: %w", err))
	}
	for _, s := range list {
		if s.Node == m.ID {
			out.Holds++
		}
	}
	out.Databases = d.mysqlDesk().leave(ctx, who.User, m.Name, reason)
	return out, nil
}

// UndrainNode implements api.Duties.
func (d duties) UndrainNode(ctx context.Context, who api.Identity, node string) (api.NodeName, error) {
	l, m, err := d.named(node)
	if err != nil {
		return api.NodeName{}, err
	}
	if err := l.Undrain(ctx, m.ID); err != nil {
		return api.NodeName{}, d.of(err)
	}
	d.log.Info("node undrained", "node", m.ID, "name", m.Name, "user", who.User)
	return api.NodeName{ID: m.ID, Name: m.Name}, nil
}
