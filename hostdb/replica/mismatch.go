package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
)

const (
	// repairEvery is the shortest time between two repairs: a state that differs again has a cause that a repair does not end.
	repairEvery = time.Hour
	// doubtEvery is the shortest time between two investigations. Each folds all of history: where they lead to nothing, they become rarer.
	doubtEvery  = time.Minute
	doubtRarely = time.Hour
	// maxVoices is how many peers are asked for digests.
	maxVoices = 16
	// maxStateBytes bounds a state that is held in memory to compare with.
	maxStateBytes = 2 << 30
)

// doubt is where it stands that replicas of equal versions differ.
type doubt struct {
	active   bool
	looked   time.Time // when it was last looked into
	repaired time.Time
	again    time.Duration // so long nothing is looked into anew; doubles while that leads to nothing
	verdict  string        // of the last investigation, for people
}

// maxNamed is how many namespaces of one comparison are named in alarms.
const maxNamed = 16

// differing are the namespaces whose digests differ, or that only one side has, sorted.
func differing(ours, theirs map[string]string) []string {
	var list []string
	for ns, is := range ours {
		if other, ok := theirs[ns]; !ok || other != is {
			list = append(list, ns)
		}
	}
	for ns := range theirs {
		if _, ok := ours[ns]; !ok {
			list = append(list, ns)
		}
	}
	slices.Sort(list)
	return list
}

// compare holds our digests against a peer's of the same version.
func (r *Replica) compare(node string, pic *picture, answer *pullAnswer) {
	v := pic.view
	if answer.Algorithm != hostdb.DigestAlgorithm || answer.Version != pic.version || v.Unfolded() > 0 || answer.Late {
		return
	}
	ours := digests(v)
	if len(answer.Digests) == 0 {
		return // it says nothing about itself
	}
	differs := differing(ours, answer.Digests)
	for _, ns := range differs[:min(len(differs), maxNamed)] {
		r.alarm("replicas with equal versions differ", "peer", node, "namespace", ns, "version", answer.Version, "ours", ours[ns], "theirs", answer.Digests[ns])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peerLocked(node).differs = len(differs) > 0
	if len(differs) == 0 {
		return
	}
	r.counts.Mismatches++
	d := &r.doubt
	now := time.Now()
	if d.active || !d.looked.IsZero() && now.Sub(d.looked) < max(doubtEvery, d.again) {
		return
	}
	theirs := answer.Digests
	if r.goLocked(func(ctx context.Context) { r.investigate(ctx, node, pic, theirs) }) {
		d.active, d.looked = true, now
	}
}

// investigate finds out which of two replicas is wrong, and makes this one good if it is.
func (r *Replica) investigate(ctx context.Context, node string, pic *picture, theirs map[string]string) {
	e := evidence{Time: r.cfg.Clock.Now(), Node: r.cfg.NodeID, Peer: node, Version: pic.version, Algorithm: hostdb.DigestAlgorithm,
		Ours: digests(pic.view), Theirs: theirs}
	verdict, diffs, err := r.judge(ctx, node, pic, theirs, &e)
	if err != nil {
		e.Error = err.Error()
	}
	e.Verdict = verdict
	e.differences(diffs)
	r.mu.Lock()
	r.doubt.active, r.doubt.verdict = false, verdict
	r.doubt.again = min(max(doubtEvery, 2*r.doubt.again), doubtRarely)
	if len(diffs) > 0 {
		r.doubt.repaired, r.doubt.again = time.Now(), 0
		r.counts.Repairs++
	}
	r.mu.Unlock()
	r.log.Error("replicas that differ were looked into", "peer", node, "version", pic.version, "verdict", verdict, "keys", len(diffs), "err", err)
	r.keepEvidence(&e)
}

// The verdicts of an investigation.
const (
	verdictRepairedLog   = "this replica differed from its own log and was made good from it"
	verdictRepairedPeer  = "this replica stood alone and was made good from a peer's state"
	verdictVouched       = "this replica is what its whole log says: the other one will find out itself"
	verdictPeer          = "the other replica stands alone: it will find out itself"
	verdictTwo           = "two replicas differ and no third of the same version was heard: nothing was changed"
	verdictSplit         = "no majority: nothing was changed"
	verdictAgain         = "replicas differ again within an hour of a repair: nothing was changed, a person must look"
	verdictSick          = "so many members failed that this node doubts itself: nothing was changed"
	verdictMoved         = "this replica went on meanwhile: it is looked into again"
	verdictNotRepairable = "this replica stands alone and could not be made good"
)

// judge decides. Differences are what a repair changed.
func (r *Replica) judge(ctx context.Context, node string, pic *picture, theirs map[string]string, e *evidence) (string, []hostdb.Difference, error) {
	r.mu.Lock()
	again := !r.doubt.repaired.IsZero() && time.Since(r.doubt.repaired) < repairEvery
	r.mu.Unlock()
	if again {
		return verdictAgain, nil, nil
	}
	// One's own log is the best judge of oneself.
	right, err := r.cfg.Store.Refold(ctx)
	if err == nil {
		now := r.cfg.Store.View()
		e.Refold = digests(right)
		if right.Version().String() == now.Version().String() && !maps.Equal(e.Refold, digests(now)) {
			diffs, err := r.cfg.Store.Repair(ctx, right)
			if err != nil {
				return verdictNotRepairable, nil, err
			}
			return verdictRepairedLog, diffs, nil
		}
		if right.Version().String() != now.Version().String() {
			return verdictMoved, nil, nil
		}
		// No majority knows better than all operations there ever were: it may have its state from one source that is wrong.
		if _, cut, err := r.cfg.Store.Horizon(); err == nil && !cut {
			return verdictVouched, nil, nil
		}
	}
	if r.cfg.Sick() {
		return verdictSick, nil, err
	}
	votes := r.voices(ctx, pic, node, theirs)
	e.Voices = len(votes) + 1
	ours := fingerprint(digests(pic.view))
	verdict, healthy := majority(ours, votes)
	if verdict != verdictRepairedPeer {
		return verdict, nil, err
	}
	for _, n := range healthy {
		diffs, err := r.repairFrom(ctx, n, pic.version)
		switch {
		case err == nil:
			return verdictRepairedPeer, diffs, nil
		case errors.Is(err, hostdb.ErrMoved):
			return verdictMoved, nil, err
		}
		r.log.Warn("a peer's state is not taken for a repair", "peer", n, "err", err)
	}
	return verdictNotRepairable, nil, err
}

// vote is what one peer's state looks like.
type vote struct{ node, fingerprint string }

// majority says who is wrong: ours against the votes of peers of the same version. Healthy are peers to repair from.
func majority(ours string, votes []vote) (verdict string, healthy []string) {
	if len(votes) < 2 {
		return verdictTwo, nil
	}
	count := map[string]int{ours: 1}
	for _, v := range votes {
		count[v.fingerprint]++
	}
	for f, n := range count {
		if 2*n <= len(votes)+1 {
			continue
		}
		switch {
		case f == ours:
			return verdictPeer, nil
		case count[ours] > 1:
			return verdictSplit, nil
		}
		for _, v := range votes {
			if v.fingerprint == f {
				healthy = append(healthy, v.node)
			}
		}
		return verdictRepairedPeer, healthy
	}
	return verdictSplit, nil
}

func fingerprint(digests map[string]string) string {
	var b strings.Builder
	for _, ns := range slices.Sorted(maps.Keys(digests)) {
		fmt.Fprintf(&b, "%q=%q ", ns, digests[ns])
	}
	return b.String()
}

// voices asks peers for their digests; those count that are of the version in question.
func (r *Replica) voices(ctx context.Context, pic *picture, node string, theirs map[string]string) []vote {
	votes := []vote{{node, fingerprint(theirs)}}
	r.mu.Lock()
	nodes := slices.Clone(r.roster.nodes)
	r.mu.Unlock()
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	asked := 0
	for _, n := range nodes {
		if n == r.cfg.NodeID || n == node || asked == maxVoices {
			continue
		}
		asked++
		req := pullRequest{Protocol: protocol, Version: pic.version, Retired: pic.retired, Sums: pic.sums[:]}
		r.mu.Lock()
		if r.peerLocked(n).protocol != protocol {
			r.mu.Unlock()
			req.Vector = r.askVector(n)
		} else {
			r.mu.Unlock()
		}
		var answer pullAnswer
		if err := r.call(ctx, n, pullName, req, &answer); err != nil || answer.Busy || answer.Late {
			continue
		}
		if answer.Version == pic.version && answer.Algorithm == hostdb.DigestAlgorithm {
			votes = append(votes, vote{n, fingerprint(answer.Digests)})
		}
	}
	return votes
}

// repairFrom takes a peer's state of a version into memory, and this replica's registers from it.
func (r *Replica) repairFrom(ctx context.Context, node, version string) ([]hostdb.Difference, error) {
	var heads []byte
	var pieces [][]byte
	size, after, fails := 0, "", 0
	for {
		answer, err := r.askState(ctx, node, version, after)
		if errors.Is(err, errBusy) && fails < 10 {
			fails++
			if !pause(ctx, r.busyFor(node)) {
				return nil, ctx.Err()
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if after == "" {
			heads = answer.Heads
		}
		pieces = append(pieces, answer.Piece)
		if size += len(answer.Piece); size > maxStateBytes {
			return nil, broken("peer %s's state does not end within %d bytes", node, maxStateBytes)
		}
		if after = string(answer.Last); after == "" {
			right, err := hostdb.StateOf(heads, pieces)
			if err != nil {
				return nil, err
			}
			if !maps.Equal(digests(right), answer.Digests) {
				r.alarm("the state of a peer does not match its digests", "peer", node, "version", version)
				return nil, broken("peer %s's state does not match its digests", node)
			}
			return r.cfg.Store.Repair(ctx, right)
		}
	}
}
