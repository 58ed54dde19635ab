package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb"
)

const (
	// maxPullers is how many comparisons run at a time. One of them fetches operations: all peers have the same to give.
	maxPullers = 4
	// maxWanted is how many peers wait to be pulled from; in a mesh of one hop those that are alive do.
	maxWanted = 256
	// turn is how long one peer's pull goes on while others wait, and how long it may be silent: a slow peer does not keep a
	// joiner from a fast one.
	turn = 2 * time.Second
	// fewHeads is up to how many heads a comparison names all of them, so that its answer can bring what is missing.
	fewHeads = 256
)

// errBusy is returned for a peer that has too much to do.
var errBusy = errors.New("the peer answers others; later")

// fetching says which peer operations are fetched from.
type fetching struct {
	node   string // "" for none
	active time.Time
	parked []string // peers that have something for us too
}

// wantPullLocked has a peer pulled from soon.
func (r *Replica) wantPullLocked(node string) {
	if r.over || r.ctx == nil || node == r.cfg.NodeID || !r.roster.has(node) || len(r.wanted) >= maxWanted {
		return
	}
	p := r.peerLocked(node)
	if p.pulled {
		return
	}
	p.pulled = true
	r.wanted = append(r.wanted, node)
	if r.pullers < maxPullers && r.goLocked(r.puller) {
		r.pullers++
	}
}

// puller pulls from those that are wanted until there are none.
func (r *Replica) puller(ctx context.Context) {
	for {
		r.mu.Lock()
		if len(r.wanted) == 0 || ctx.Err() != nil {
			r.pullers--
			r.mu.Unlock()
			return
		}
		p := r.peerLocked(r.wanted[0])
		r.wanted = r.wanted[1:]
		alive := r.roster.has(p.node)
		r.mu.Unlock()
		var err error
		if alive {
			err = r.pull(ctx, p)
		}
		r.mu.Lock()
		p.pulled = false
		if alive && ctx.Err() == nil {
			r.pullEndedLocked(p, err)
		}
		r.mu.Unlock()
	}
}

// pullEndedLocked notes how a pull went, and has it tried again: with the same peer where all are asked, else with another.
func (r *Replica) pullEndedLocked(p *peer, err error) {
	busy := errors.Is(err, errBusy)
	if !busy {
		r.settleLocked(p, err)
	}
	if err == nil {
		return
	}
	r.counts.PullErrors++
	r.log.Debug("nothing was pulled", "peer", p.node, "err", err)
	wait := backoff(p.fails)
	if busy {
		r.counts.TurnedAway++
		wait = time.Until(p.busyUntil)
	}
	if p.retrying || !r.roster.has(p.node) {
		return
	}
	p.retrying = true
	r.goLocked(func(ctx context.Context) {
		ok := pause(ctx, wait)
		r.mu.Lock()
		defer r.mu.Unlock()
		p.retrying = false
		switch {
		case !ok:
		case r.roster.others() <= r.cfg.Fanout:
			r.wantPullLocked(p.node)
		default:
			r.pullAnyLocked()
		}
	})
}

// pull compares with a peer and takes what is missing here.
func (r *Replica) pull(ctx context.Context, p *peer) error {
	pic := r.picture()
	empty := pic.held == 0
	r.mu.Lock()
	knownOld, unknown := p.protocol == oldProtocol, p.protocol == 0
	may := !empty && r.takeFetchLocked(p.node)
	r.mu.Unlock()
	defer func() { r.endFetch(p.node) }()
	if knownOld {
		return r.pullOld(ctx, p, nil)
	}
	req := pullRequest{Protocol: protocol, Version: pic.version, Retired: pic.retired}
	if may {
		req.Bytes = r.cfg.MessageBytes
	}
	if len(pic.heads) <= fewHeads {
		req.Heads = packHeads(pic.heads)
	} else {
		req.Sums = pic.sums[:]
	}
	if unknown { // it may be of an older build, which would send everything to who names nothing
		req.Vector = r.askVector(p.node)
	}
	var answer pullAnswer
	if err := r.call(ctx, p.node, pullName, req, &answer); err != nil {
		return err
	}
	if answer.Busy {
		return r.turnedAway(p, answer.RetryMS)
	}
	old := answer.Protocol < protocol
	r.mu.Lock()
	r.counts.Pulls++
	p.protocol = protocol
	if old {
		p.protocol = oldProtocol
	}
	r.mu.Unlock()
	if old {
		if !unknown { // it was of this build a moment ago, and misunderstood what it was asked
			return r.pullOld(ctx, p, nil)
		}
		return r.pullOld(ctx, p, &answer)
	}
	return r.follow(ctx, p, pic, &answer)
}

// turnedAway notes when a peer may be asked again.
func (r *Replica) turnedAway(p *peer, ms int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.busies++
	p.busyUntil = time.Now().Add(max(jitter(retryAfter(ms)), backoff(p.busies)))
	return errBusy
}

// follow does what an answer to a comparison calls for.
func (r *Replica) follow(ctx context.Context, p *peer, pic *picture, answer *pullAnswer) error {
	d := r.differences(pic, answer)
	r.mu.Lock()
	p.saidVersion(answer.Version)
	r.comparedLocked(p, pic, d.theirs)
	r.mu.Unlock()
	for _, h := range d.forked {
		r.foundFork(ctx, p.node, h.origin, h.seq)
	}
	if answer.Version == pic.version {
		r.compare(p.node, pic, answer)
	}
	if pic.held == 0 && answer.Held > 0 && (answer.Held > r.cfg.JoinOperations || answer.Partial) {
		if answer.Late {
			return fmt.Errorf("peer %s holds operations of a newer build that it cannot fold: its state is not taken", p.node)
		}
		r.joinFrom(p.node)
		return nil
	}
	if pic.held == 0 && answer.Held == 0 && !r.allEmpty() {
		r.lookFurther()
		return nil
	}
	whole, err := r.takeLacking(ctx, p, d.lacking, answer)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if whole {
		p.floor = max(p.floor, answer.Floor)
	}
	r.syncedLocked()
	r.mu.Unlock()
	r.checkBehind(ctx, p.node, d.behind)
	r.offer(p, d.missing)
	return nil
}

// allEmpty reports whether every live peer was empty when it was compared. Until then an empty replica that meets another one
// has reached nothing: both may be joiners.
func (r *Replica) allEmpty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, node := range r.roster.nodes {
		if p := r.peers[node]; node != r.cfg.NodeID && (p == nil || p.version != emptyVersion) {
			return false
		}
	}
	return true
}

// lookFurther asks another peer soon: where thousands join at once, most are empty yet.
func (r *Replica) lookFurther() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.looking || r.synced {
		return
	}
	r.looked++
	looked := r.looked
	r.looking = r.goLocked(func(ctx context.Context) {
		pause(ctx, backoff(looked))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.looking = false
		r.pullAnyLocked()
	})
}

// differences reads the heads of an answer.
func (r *Replica) differences(pic *picture, answer *pullAnswer) difference {
	switch {
	case answer.Version == pic.version:
		return difference{}
	case answer.All:
		return compareHeads(pic.all(), unpackHeads(answer.Heads))
	default:
		return compareHeads(pic.inBuckets(answer.Mask), unpackHeads(answer.Heads))
	}
}

// takeLacking takes operations that the peer holds and we lack; those that came with the answer first. Whole says that
// nothing of them is left.
func (r *Replica) takeLacking(ctx context.Context, p *peer, lacking []pair, answer *pullAnswer) (whole bool, err error) {
	asked := map[uint64]uint64{}
	until := map[uint64]uint64{}
	r.mu.Lock()
	for _, l := range lacking {
		asked[l.origin] = l.seq
		until[l.origin] = p.seq(l.origin)
	}
	r.mu.Unlock()
	whole = true
	ops, began := answer.Ops, time.Now()
	for {
		if err := r.solicited(p.node, ops, asked); err != nil {
			return false, err
		}
		held := map[uint64]bool{}
		taken, err := r.take(ctx, p.node, ops, held)
		r.count(func(c *Counts) { c.PulledOps += uint64(taken) })
		if err != nil {
			return false, err
		}
		for origin := range held {
			delete(asked, origin)
			whole = false
		}
		want := r.stillLacking(p.node, asked, until, &whole)
		if len(want) == 0 {
			return whole, nil
		}
		if !r.turnGoesOn(p.node, began) {
			return false, nil
		}
		if ops, err = r.askOps(ctx, p, want, asked, &whole); err != nil {
			return false, err
		}
		if len(ops) == 0 {
			return whole, nil
		}
	}
}

// askOps asks for operations, and strikes out of asked what the peer does not have.
func (r *Replica) askOps(ctx context.Context, p *peer, want []pair, asked map[uint64]uint64, whole *bool) ([][]byte, error) {
	var answer pullAnswer
	if err := r.call(ctx, p.node, pullName, pullRequest{Protocol: protocol, Want: packPairs(want), Bytes: r.cfg.MessageBytes}, &answer); err != nil {
		return nil, err
	}
	if answer.Busy {
		return nil, r.turnedAway(p, answer.RetryMS)
	}
	if answer.Protocol < protocol {
		return nil, broken("peer %s changed its protocol", p.node)
	}
	for _, origin := range answer.Gone {
		if held, ok := asked[origin]; ok {
			r.noteGone(p.node, origin, held)
		}
		delete(asked, origin)
		*whole = false
	}
	if len(answer.Ops) == 0 && len(answer.Gone) == 0 {
		*whole = false // it said that it holds more, and gives nothing
	}
	return answer.Ops, nil
}

// stillLacking are the wanted origins of which something is missing yet.
func (r *Replica) stillLacking(node string, asked, until map[uint64]uint64, whole *bool) []pair {
	v, now := r.cfg.Store.View(), time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var want []pair
	for origin := range asked {
		have := v.Seq(origin)
		switch {
		case have >= until[origin]:
			delete(asked, origin)
			continue
		case r.barredLocked(node, origin) || now.Before(r.aside[origin].recheck):
			delete(asked, origin)
			*whole = false
			continue
		}
		asked[origin] = have
		want = append(want, pair{origin, have})
	}
	slices.SortFunc(want, func(a, b pair) int { return cmp.Compare(a.origin, b.origin) })
	return want
}

// solicited checks that operations are such as were asked for.
func (r *Replica) solicited(node string, ops [][]byte, asked map[uint64]uint64) error {
	for _, raw := range ops {
		origin, seq, err := hostdb.PeekOperation(raw)
		if err != nil {
			r.count(func(c *Counts) { c.Refused++ })
			return fmt.Errorf("peer %s sent what is no operation: %w", node, err)
		}
		if after, ok := asked[origin]; !ok || seq <= after {
			r.count(func(c *Counts) { c.Refused++ })
			return broken("peer %s sent operation %d of origin %016x, which nobody asked for", node, seq, origin)
		}
	}
	return nil
}

// takeFetchLocked makes a peer the one that operations are fetched from, unless another is, and is not silent.
func (r *Replica) takeFetchLocked(node string) bool {
	now := time.Now()
	if f := &r.fetch; f.node == "" || f.node == node || now.Sub(f.active) > turn {
		f.node, f.active = node, now
		return true
	}
	return false
}

// turnGoesOn reports whether a pull may ask for more. When it may not, the peer's turn comes again.
func (r *Replica) turnGoesOn(node string, began time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	yield := r.fetch.node == node && time.Since(began) > turn && len(r.fetch.parked) > 0
	if !yield && r.takeFetchLocked(node) {
		return true
	}
	if !slices.Contains(r.fetch.parked, node) && len(r.fetch.parked) < maxWanted {
		r.fetch.parked = append(r.fetch.parked, node)
	}
	return false
}

// endFetch lets the next peer be fetched from.
func (r *Replica) endFetch(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetch.node != node {
		return
	}
	r.fetch.node = ""
	parked := r.fetch.parked
	r.fetch.parked = nil
	for _, n := range parked {
		p := r.peerLocked(n)
		if n == node {
			p.pulled = false // it is this one's turn that ends
		}
		r.wantPullLocked(n)
	}
}

// offer pushes what of ours the peer turned out to lack: it may have missed it while it was away, and others as well.
func (r *Replica) offer(p *peer, missing []pair) {
	origin := r.cfg.Store.Origin()
	if origin == 0 || !slices.ContainsFunc(missing, func(m pair) bool { return m.origin == origin }) {
		return
	}
	r.mu.Lock()
	r.dirtyLocked(p.node, origin)
	r.mu.Unlock()
	r.pushOwn()
}
