package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hostmesh/mesh"
)

// serveAsk answers what nodes want of the leader. Nodes trust each other; who asks is who its certificate says.
func (l *Lease) serveAsk(ctx context.Context, from mesh.Caller, b []byte) ([]byte, error) {
	var q asking
	if err := decoding.Unmarshal(b, &q); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	g := l.group()
	a := answer{Group: g}
	switch o := l.server.leading(); {
	case q.Group != g.ID || q.Epoch != g.epoch():
		a.Code, a.Text = codeOtherGroup, fmt.Sprintf("this node is of generation %d of group %s", g.Generation, g.ID)
	case o == nil || o.epoch != g.epoch():
		a = notLeader(errOffice)
		if r, _ := l.server.running(); r != nil {
			addr, _ := r.LeaderWithID()
			a.Leader = string(addr)
		}
	default:
		a = o.answer(ctx, from, &q)
		if a.Code != codeNotLeader {
			a.Leader = l.cfg.NodeID
		}
		if list, err := voters(o.raft); err == nil {
			for _, s := range list {
				a.Voters = append(a.Voters, string(s.Address))
			}
		}
	}
	a.Group = g
	return encoding.Marshal(a)
}

func notLeader(err error) answer { return answer{Code: codeNotLeader, Text: err.Error()} }

func failed(err error) answer {
	if errors.Is(err, errNotProposed) {
		return notLeader(err)
	}
	return answer{Code: errorCode(err), Text: err.Error()}
}

func (o *office) answer(ctx context.Context, from mesh.Caller, q *asking) answer {
	switch {
	case q.Renew != nil:
		return o.renew(ctx, from.ID, q.Renew)
	case q.Release != nil:
		return o.release(from.ID, q.Release)
	case q.Op != nil:
		return o.operate(ctx, from.ID, q.Op)
	}
	// What is only read is read from this leader's memory, which must be that of the leader.
	if err := o.conf.confirm(ctx, true); err != nil {
		return notLeader(err)
	}
	if q.Get == nil && !o.introduced(ctx) {
		return notLeader(errOffice)
	}
	switch {
	case q.Get != nil && q.Get.Settle:
		// What was proposed before this question is folded before it is answered.
		if err := o.raft.Barrier(o.l.times.Hold).Error(); err != nil {
			return notLeader(err)
		}
		return o.get(ctx, q.Get)
	case q.Get != nil:
		return o.get(ctx, q.Get)
	case q.List:
		return answer{Duties: o.list()}
	case q.Explain != "":
		e, err := o.explain(q.Explain)
		if err != nil {
			return failed(err)
		}
		return answer{Explain: e}
	case q.Move != nil:
		if err := o.moveTo(q.Move); err != nil {
			return failed(err)
		}
		return answer{}
	case q.Config:
		v, err := o.voters()
		if err != nil {
			return failed(err)
		}
		return answer{Config: v}
	}
	return failed(fmt.Errorf("%w: the leader does not know this request: it may be older than who asks", ErrInvalid))
}

// operate writes an entry that a node may ask for.
func (o *office) operate(ctx context.Context, from string, b []byte) answer {
	p, err := decodeOp(b)
	if err != nil {
		return failed(fmt.Errorf("%w: %w", ErrInvalid, err))
	}
	switch p.Kind {
	case opPut, opDelete, opAdd:
		if err := checkName("record", p.Key); err != nil {
			return failed(err)
		}
		if len(p.Value) > maxValue {
			return failed(fmt.Errorf("record %q: %w: %d bytes, at most %d", p.Key, ErrInvalid, len(p.Value), maxValue))
		}
		if p.Kind == opAdd && !strings.HasPrefix(p.Key, counterPrefix) {
			return failed(fmt.Errorf("record %q: %w: it is no counter", p.Key, ErrInvalid))
		}
	case opDrain, opUndrain, opExcuse:
		if _, known := o.l.cfg.Mesh.View().Get(p.Node); p.Kind == opDrain && !known {
			return failed(fmt.Errorf("drain node %q: %w: no such member", clip(p.Node), ErrNotFound))
		}
		if len(p.Node) > maxKey || len(p.User) > maxKey || len(p.Text) > maxText {
			return failed(fmt.Errorf("%w: node, user or reason is too long", ErrInvalid))
		}
	case opClaim:
		p.Node = from
		for _, c := range p.Claims {
			if checkName("record", c.Key) != nil || len(c.Value) > maxValue {
				return failed(fmt.Errorf("%w: claim of %q", ErrInvalid, clip(c.Key)))
			}
		}
	default:
		return failed(fmt.Errorf("%w: a node cannot ask for an entry of kind %d", ErrInvalid, p.Kind))
	}
	// Only what the kind needs goes into the log.
	if ctx.Err() != nil {
		return notLeader(ctx.Err()) // nobody waits for it any more
	}
	out, err := o.propose(op{
		Kind: p.Kind, Key: p.Key, Value: p.Value, If: p.If, Count: p.Count, Node: p.Node, User: p.User, Text: p.Text, Claims: p.Claims,
		Duty: p.Duty, Fence: p.Fence,
	})
	if err != nil {
		return failed(err)
	}
	o.wake()
	return answer{Version: out.Version}
}

// introduced waits until this leader has heard who would take what; false when the office ended first.
func (o *office) introduced(ctx context.Context) bool {
	for o.l.clock.Boot() < o.notBefore {
		select {
		case <-o.ctx.Done():
			return false
		case <-ctx.Done():
			return false
		case <-time.After(o.l.times.Tick / 2):
		}
	}
	return true
}

const maxWait = 30 * time.Second // of a watcher

// get reads records, or waits for a change of them.
func (o *office) get(ctx context.Context, g *getting) answer {
	wait := min(time.Duration(g.WaitMS)*time.Millisecond, maxWait)
	if wait > 0 {
		if !o.l.watching.enter() {
			wait = 0 // too many wait already: this one asks again
		} else {
			defer o.l.watching.leave()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		next := o.m.next()
		a := o.read(g)
		if g.After == 0 || wait == 0 || len(a.Records) > 0 || len(a.Deleted) > 0 || a.Anew {
			return a
		}
		select {
		case <-next:
		case <-o.ctx.Done():
			return notLeader(errOffice)
		case <-ctx.Done():
			return o.confirmed(a)
		}
	}
}

// confirmed is a, if this node still leads: a watcher that waited must not hear "nothing new" from one that is deposed.
func (o *office) confirmed(a answer) answer {
	ctx, cancel := context.WithTimeout(o.ctx, o.l.times.Election)
	defer cancel()
	if err := o.conf.confirm(ctx, true); err != nil {
		return notLeader(err)
	}
	return a
}

func (o *office) read(g *getting) answer {
	var a answer
	o.m.read(func(s *state) {
		a.AsOf = s.asOf()
		a.Anew = g.After > 0 && (g.After < s.Forgot || g.After>>44 != s.Generation)
		if !g.Prefix {
			if r := s.Records[g.Key]; r != nil && r.Version > g.After {
				a.Records = []recordWire{{g.Key, r.Value, r.Version}}
			}
		}
		size := 0
		for key, r := range s.Records {
			if g.Prefix && strings.HasPrefix(key, g.Key) && (a.Anew || r.Version > g.After) {
				if size += len(key) + len(r.Value); size > maxState {
					break
				}
				a.Records = append(a.Records, recordWire{key, r.Value, r.Version})
			}
		}
		if g.After > 0 && !a.Anew {
			for _, x := range s.Gone {
				if x.Fence > g.After && (x.Key == g.Key || g.Prefix && strings.HasPrefix(x.Key, g.Key)) && s.Records[x.Key] == nil {
					a.Deleted = append(a.Deleted, x.Key)
				}
			}
		}
	})
	return a
}
