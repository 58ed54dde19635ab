package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"hostmesh/mesh"
)

// finder knows whom to ask: hints, from the last answers and from the mesh. A wrong hint costs a call.
type finder struct {
	l *Lease

	mu     sync.Mutex // guards the fields below
	leader string     // node; "" = not known
	voters []string   // nodes
	asked  int        // nodes asked for whereabouts since the last success
}

func newFinder(l *Lease) *finder { return &finder{l: l} }

// try asks the node that should lead, and whom it names instead. Every error but a remoteError means that nobody who leads answered;
// it is ErrUnknown when one may have heard the request.
func (f *finder) try(ctx context.Context, q *asking) (answer, error) {
	f.mu.Lock()
	target := f.leader
	f.mu.Unlock()
	if o := f.l.server.leading(); o != nil {
		target = f.l.cfg.NodeID
	}
	if target == "" {
		if target = f.search(ctx); target == "" {
			return answer{}, ErrNoLeader
		}
	}
	req := must(encoding.Marshal(q))
	for range 3 {
		a, err := f.call(ctx, target, req, q)
		switch {
		case err != nil:
			f.lose(target)
			return answer{}, err
		case a.Code == codeNotLeader:
			if a.Leader == "" || a.Leader == target {
				f.lose(target)
				return answer{}, fmt.Errorf("%w: node %s: %s", ErrNoLeader, shortID(target), a.Text)
			}
			target = a.Leader
			continue
		case a.Code == codeOtherGroup:
			f.lose(target)
			f.l.learn(a.Group, false)
			return answer{}, fmt.Errorf("%w: node %s is of another group or generation", ErrNoLeader, shortID(target))
		}
		f.mu.Lock()
		f.leader, f.asked = target, 0
		if len(a.Voters) > 0 && len(a.Voters) <= 16 {
			f.voters = a.Voters
		}
		f.mu.Unlock()
		f.l.learn(a.Group, true)
		if a.Code != "" {
			return a, &remoteError{errCodes[a.Code], a.Text}
		}
		return a, nil
	}
	f.lose(target)
	return answer{}, fmt.Errorf("%w: every node names another", ErrNoLeader)
}

func (f *finder) call(ctx context.Context, node string, req []byte, q *asking) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.l.patience(q))
	defer cancel()
	// What may be long does not take the lane of what is urgent.
	send := f.l.cfg.Mesh.Call
	if (q.Renew != nil || q.Release != nil || q.Op != nil) && len(req) < mesh.MaxUrgent/2 {
		send = f.l.cfg.Mesh.CallUrgent
	}
	b, err := send(ctx, node, callAsk, req)
	if errors.Is(err, mesh.ErrTooLarge) && q.Renew != nil {
		b, err = f.l.cfg.Mesh.Call(ctx, node, callAsk, req) // a renewal may be repeated
	}
	if errors.Is(err, mesh.ErrTooLarge) {
		return answer{}, &remoteError{ErrFull, err.Error()}
	}
	if err != nil {
		sentinel := ErrUnknown
		if errors.Is(err, mesh.ErrNotMember) || errors.Is(err, mesh.ErrBusy) || errors.Is(err, mesh.ErrNoHandler) {
			sentinel = ErrNoLeader
		}
		return answer{}, fmt.Errorf("%w: %w", sentinel, err)
	}
	var a answer
	if err := decoding.Unmarshal(b, &a); err != nil {
		return answer{}, fmt.Errorf("%w: decode answer of node %s: %w", ErrUnknown, shortID(node), err)
	}
	return a, nil
}

// patience is how long one call may take.
func (l *Lease) patience(q *asking) time.Duration {
	p := l.times.Hold + l.times.Election
	if q.Renew != nil {
		p = 2 * l.times.Renew
	}
	if q.Get != nil {
		p += time.Duration(q.Get.WaitMS) * time.Millisecond
	}
	return p
}

// forget drops all hints: those of another group, or generation, lead nowhere.
func (f *finder) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader, f.voters = "", nil
}

func (f *finder) lose(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader == node {
		f.leader = ""
	}
}

// search asks several nodes at once who leads: voters first, then others of the datacenter by chance. Those that raft runs on know; what
// others have heard is taken when none of them answers, for it may be as old as what this node has just tried.
func (f *finder) search(ctx context.Context) (leader string) {
	ctx, cancel := context.WithTimeout(ctx, f.l.times.Renew)
	defer cancel()
	targets := f.targets()
	if len(targets) == 0 {
		return ""
	}
	answers := make(chan whereabouts, len(targets))
	for _, t := range targets {
		go func() {
			w, _ := f.l.where(ctx, t)
			answers <- w
		}()
	}
	for range targets {
		w := <-answers
		g := f.l.group()
		if !w.Known || w.Group.ID != g.ID || w.Group.epoch() != g.epoch() {
			continue
		}
		f.mu.Lock()
		if len(w.Voters) > 0 && len(w.Voters) <= 16 {
			f.voters = w.Voters
		}
		f.mu.Unlock()
		switch {
		case w.Leader == "":
		case w.Serving:
			return w.Leader // it may be wrong: then that one says so
		default:
			leader = w.Leader
		}
	}
	return leader
}

// targets are this node, the voters, and two others.
func (f *finder) targets() []string {
	f.mu.Lock()
	list := append([]string{f.l.cfg.NodeID}, f.voters...)
	f.mu.Unlock()
	var others []string
	for m := range f.l.cfg.Mesh.View().Alive() {
		if m.Datacenter == f.l.cfg.Datacenter && !slices.Contains(list, m.ID) {
			others = append(others, m.ID)
		}
	}
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	list = append(list, others[:min(len(others), 2)]...)
	slices.Sort(list)
	return slices.Compact(list)
}

// where asks a node what it knows, and learns from it.
func (l *Lease) where(ctx context.Context, node string) (whereabouts, error) {
	b, err := l.cfg.Mesh.CallUrgent(ctx, node, callWhere, nil)
	if err != nil {
		return whereabouts{}, err
	}
	var w whereabouts
	if err := decoding.Unmarshal(b, &w); err != nil {
		return whereabouts{}, fmt.Errorf("decode answer of node %s: %w", shortID(node), err)
	}
	if w.Known {
		l.learn(w.Group, false)
	}
	if w.Home != nil && w.Home.Home {
		l.learn(*w.Home, false)
	}
	return w, nil
}

// serveWhere tells what this node knows.
func (l *Lease) serveWhere(context.Context, mesh.Caller, []byte) ([]byte, error) {
	l.mu.Lock()
	w := whereabouts{Known: l.known.ID != "", Group: l.known, Home: l.home, Pending: l.pending}
	l.mu.Unlock()
	l.client.find.mu.Lock()
	w.RaftID = l.disk.RaftID()
	w.Leader, w.Voters = l.client.find.leader, l.client.find.voters
	l.client.find.mu.Unlock()
	if r, _ := l.server.running(); r != nil {
		w.Serving, w.Last, w.LastTerm = true, r.LastIndex(), r.CurrentTerm()
		addr, _ := r.LeaderWithID()
		w.Leader = string(addr)
		if list, err := voters(r); err == nil {
			w.Voters = nil
			for _, s := range list {
				w.Voters = append(w.Voters, string(s.Address))
			}
		}
	}
	return encoding.Marshal(w)
}
