package lease

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/mesh"
	"hostmesh/mesh/lease/raftdisk"
)

func newGroup(datacenter string, home bool) Group {
	b := make([]byte, 16)
	if _, err := crand.Read(b); err != nil {
		panic(err) // it never fails
	}
	return Group{ID: hex.EncodeToString(b), Generation: 1, Datacenter: datacenter, Home: home}
}

// watchGroup finds the group while none is known. Later it asks from time to time whether this node's part in it still stands, and
// whether there is a later generation: two voters of a former one, back after a recovery, would be content with each other.
func (l *Lease) watchGroup(ctx context.Context) {
	changed, stop := l.cfg.Mesh.WatchMembers()
	defer stop()
	for {
		wait := l.times.Renew
		if _, known := l.Group(); !known {
			l.look(ctx)
		} else {
			l.verifyPart(ctx)
			l.askSome(ctx, 2, l.times.Renew)
			if wait = 10 * l.times.Session; l.server.serving() {
				wait = l.times.Session
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			continue
		case <-changed:
			timer.Stop()
		}
		// Members that come may know more; they come in crowds.
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.times.Renew):
		}
	}
}

// askSome hears what a few live members of the datacenter, taken by chance, know of the group. It returns when all have answered, or
// after limit.
func (l *Lease) askSome(ctx context.Context, n int, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var others []string
	for m := range l.cfg.Mesh.View().Alive() {
		if m.Datacenter == l.cfg.Datacenter && m.ID != l.cfg.NodeID {
			others = append(others, m.ID)
		}
	}
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	var wg sync.WaitGroup
	for _, id := range others[:min(n, len(others))] {
		wg.Go(func() { _, _ = l.where(ctx, id) })
	}
	wg.Wait()
}

// look asks others for the group. When all of the datacenter were asked, by a founder, and none knows one, it begins here: so
// that a mesh that is older than its lease groups gets one.
func (l *Lease) look(ctx context.Context) (found bool) {
	here, away, knows := l.askAround(ctx)
	if knows {
		return true
	}
	// Gossip needs a while to tell who is there.
	if !l.cfg.Founder || len(away) > 0 || l.disk.Pending() || l.disk.Discarded() != "" || time.Since(l.begun) < l.times.Stable/2 {
		return false
	}
	for _, w := range here {
		if w.Pending || w.Home != nil {
			return false
		}
	}
	g := newGroup(l.cfg.Datacenter, true)
	if err := l.begin(g); err != nil {
		l.log.Error("the lease group is not founded", "err", err)
		return false
	}
	return true
}

func (l *Lease) begin(g Group) error {
	if err := l.disk.Found(raftdisk.Group(g)); err != nil {
		return fmt.Errorf("found lease group: %w", err)
	}
	return l.server.found(g)
}

// askAround asks every known member of this datacenter, and others for the home group. away are those that did not answer.
func (l *Lease) askAround(ctx context.Context) (here map[string]whereabouts, away []string, knows bool) {
	ctx, cancel := context.WithTimeout(ctx, 4*l.times.Renew)
	defer cancel()
	type result struct {
		m   mesh.Member
		w   whereabouts
		err error
	}
	var asked int
	results := make(chan result, l.cfg.Mesh.View().Len())
	slots := make(chan struct{}, 32)
	for _, m := range l.cfg.Mesh.View().Members() {
		if m.ID == l.cfg.NodeID {
			continue
		}
		asked++
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			w, err := l.where(ctx, m.ID)
			results <- result{m, w, err}
		}()
	}
	here = map[string]whereabouts{}
	for range asked {
		r := <-results
		switch {
		case r.err != nil: // an older build too: what it will say after its upgrade is not known
			if r.m.Datacenter == l.cfg.Datacenter {
				away = append(away, r.m.ID)
			}
		default:
			here[r.m.ID] = r.w
		}
	}
	slices.Sort(away)
	_, knows = l.Group()
	return here, away, knows
}

// Found founds a group for this node's datacenter, with this node as its first voter. It refuses while a member of the datacenter
// knows a group, or cannot be asked and force is not set. home: the mesh has no home group, and this is to be it.
func (l *Lease) Found(ctx context.Context, home, force bool) (Group, error) {
	if g, ok := l.Group(); ok && !force {
		return Group{}, fmt.Errorf("found lease group: %w: group %s of datacenter %q, generation %d", ErrHasGroup, g.ID, g.Datacenter, g.Generation)
	}
	// Gossip needs a while to tell who is there to be asked.
	select {
	case <-ctx.Done():
		return Group{}, fmt.Errorf("found lease group: it is not known yet who is in the mesh: %w", ctx.Err())
	case <-time.After(time.Until(l.begun.Add(l.times.Stable / 2))):
	}
	here, away, _ := l.askAround(ctx)
	for _, w := range here {
		if w.Known && w.Group.Datacenter == l.cfg.Datacenter {
			return Group{}, fmt.Errorf("found lease group: %w: group %s, which other members of datacenter %q know; if its majority is lost, recover it",
				ErrHasGroup, w.Group.ID, w.Group.Datacenter)
		}
		if home && w.Home != nil && !force {
			return Group{}, fmt.Errorf("found lease group: %w: the home group is %s, of datacenter %q", ErrHasGroup, w.Home.ID, w.Home.Datacenter)
		}
	}
	if len(away) > 0 && !force {
		return Group{}, fmt.Errorf("found lease group: %w: %s cannot be asked whether they know a group; wait for them, remove them, or force it if you are sure",
			ErrNoLeader, names(l.cfg.Mesh.View(), away))
	}
	g := newGroup(l.cfg.Datacenter, home)
	if was, ok := l.Group(); ok && was.Datacenter == l.cfg.Datacenter {
		// What this node was in is given up by a person who says so.
		l.server.retire(l.disk.RaftID(), "another group is founded here")
		if err := l.disk.Reset("another group is founded here"); err != nil {
			return Group{}, fmt.Errorf("found lease group: %w", err)
		}
	}
	return g, l.begin(g)
}

// names lists members for people.
func names(v mesh.View, ids []string) string {
	var list []string
	for _, id := range ids {
		name := shortID(id)
		if m, ok := v.Get(id); ok && m.Name != "" {
			name = m.Name
		}
		list = append(list, name)
	}
	if len(list) > 5 {
		list = append(list[:5], fmt.Sprintf("and %d more", len(list)-5))
	}
	return strings.Join(list, ", ")
}

// verifyPart gives up this node's part in raft when the leader does not count it in any more. A voter that was away while it was
// replaced hears nothing from raft.
func (l *Lease) verifyPart(ctx context.Context) {
	r, _ := l.server.running()
	if r == nil || r.State() == raft.Leader || time.Since(r.LastContact()) < l.times.Session {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.times.Session)
	defer cancel()
	// It asks the others: raft here may believe that it knows who leads.
	v, err := l.Voters(ctx)
	if err != nil {
		return
	}
	id := l.disk.RaftID()
	if slices.ContainsFunc(v.Servers, func(s Server) bool { return s.RaftID == id }) {
		l.missed = 0
		return
	}
	// What the leader has may not be committed yet; a round later it is, or is gone.
	if l.missed++; l.missed > 1 {
		l.missed = 0
		l.server.retire(id, "the group went on without this node")
	}
}

// laterGeneration is what the transport calls when a peer is of a later generation: with each message, so only one at a time is
// followed.
func (l *Lease) laterGeneration(node string, _ uint64) {
	if !l.following.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer l.following.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), l.times.Renew)
		defer cancel()
		_, _ = l.where(ctx, node)
	}()
}

// Recover makes a new generation of the group from what this node has, with this node as its only voter. It is for a majority that is
// lost for good: it refuses while one answers, or while a voter that lacks less than this one does, unless it is forced. Every
// member must then claim what it owns before names and grants are made again.
func (l *Lease) Recover(ctx context.Context, force bool) (Group, error) {
	g, ok := l.Group()
	if !ok {
		return Group{}, fmt.Errorf("recover lease group: %w: found one", ErrNoGroup)
	}
	here, _, _ := l.askAround(ctx)
	if err := l.recoverable(g, here); err != nil && !force {
		return Group{}, fmt.Errorf("recover lease group: %w", err)
	}
	for _, w := range here {
		if w.Group.ID == g.ID {
			g.Generation = max(g.Generation, w.Group.Generation)
		}
	}
	g.Generation++
	g.Branch = rand.Uint32() | 1
	if err := l.server.recover(g); err != nil {
		return Group{}, fmt.Errorf("recover lease group: %w", err)
	}
	l.log.Warn("lease group recovered", "group", g.ID, "generation", g.Generation)
	return g, nil
}

// recoverable is why the group should not be recovered from this node: pure but for the view.
func (l *Lease) recoverable(g Group, here map[string]whereabouts) error {
	own := whereabouts{}
	if r, _ := l.server.running(); r != nil {
		own = whereabouts{Serving: true, Last: r.LastIndex(), LastTerm: r.CurrentTerm()}
		if list, err := voters(r); err == nil {
			for _, s := range list {
				own.Voters = append(own.Voters, string(s.Address))
			}
		}
	} else {
		l.client.find.mu.Lock()
		own.Voters = l.client.find.voters
		l.client.find.mu.Unlock()
	}
	alive, best, last := 0, "", own.Last
	for _, v := range own.Voters {
		w, ok := here[v]
		switch {
		case v == l.cfg.NodeID && own.Serving:
			alive++
		case ok && w.Serving && w.Group.ID == g.ID && w.Group.epoch() == g.epoch():
			alive++
			if w.Last > last {
				best, last = v, w.Last
			}
		}
	}
	if len(own.Voters) > 0 && alive > len(own.Voters)/2 {
		return fmt.Errorf("%w: %d of %d voters answer; they elect a leader by themselves", ErrQuorum, alive, len(own.Voters))
	}
	if best != "" {
		return fmt.Errorf("voter %s has entry %d, this node %d: recover the group there, or force it here and lose what this node lacks",
			names(l.cfg.Mesh.View(), []string{best}), last, own.Last)
	}
	return nil
}
