package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"hostmesh/hostdb"
)

// joinWait is how long a push waits for an empty replica to find out whether it takes a whole state first.
const joinWait = time.Second

// servePush takes operations and answers when they are durable here.
func (r *Replica) servePush(ctx context.Context, from string, body []byte) ([]byte, error) {
	var req pushRequest
	if err := decode(body, &req); err != nil {
		r.count(func(c *Counts) { c.Refused++ })
		return nil, err
	}
	var origins []uint64
	for _, raw := range req.Ops {
		origin, _, err := hostdb.PeekOperation(raw)
		if err != nil {
			r.count(func(c *Counts) { c.Refused++ })
			return nil, fmt.Errorf("push of node %s: %w", from, err)
		}
		if !slices.Contains(origins, origin) {
			if len(origins) >= fewHeads {
				r.count(func(c *Counts) { c.Refused++ })
				return nil, fmt.Errorf("push of node %s: %w", from, broken("operations of more than %d origins", fewHeads))
			}
			origins = append(origins, origin)
		}
	}
	answer := pushAnswer{Have: map[uint64]uint64{}, Protocol: protocol}
	before := r.cfg.Store.View()
	held := map[uint64]bool{}
	taken := 0
	if why := r.notYet(ctx, from, &req); why != "" {
		answer.Reason, answer.Early = why, true
	} else {
		var err error
		taken, err = r.take(ctx, from, req.Ops, held)
		if err != nil {
			answer.Reason = err.Error()
		} else if len(held) > 0 {
			answer.Reason = "some operations were not taken: operations before them are missing, or their writer's clock runs ahead"
		}
	}
	after := r.cfg.Store.View()
	r.mu.Lock()
	r.counts.BytesReceived += uint64(len(body))
	for _, origin := range origins {
		answer.Have[origin] = after.Seq(origin)
		if r.forks[origin] != nil && held[origin] {
			answer.Forked = append(answer.Forked, origin)
		}
	}
	if p := r.peers[from]; p != nil {
		for _, raw := range req.Ops {
			if origin, seq, err := hostdb.PeekOperation(raw); err == nil && seq > p.seq(origin) && seq <= after.Seq(origin) {
				r.holdsLocked(p, origin, seq)
			}
		}
	}
	r.mu.Unlock()
	for _, origin := range origins {
		if taken > 0 && after.Seq(origin) > before.Seq(origin) {
			r.push(origin, after.OriginNode(origin), from)
		}
	}
	answer.Wall = r.cfg.Clock.Now().UnixNano()
	return encode(answer)
}

// notYet waits for an empty replica to compare with somebody, and says why it takes no single operations: once it holds one
// it cannot take a whole state, and others may have no longer what came before. Where the sender says that there is little before,
// and all of it to be had, it is taken at once.
func (r *Replica) notYet(ctx context.Context, from string, req *pushRequest) string {
	if r.cfg.Store.View().Applied() > 0 || r.Synced() || req.Held > 0 && req.Held <= r.cfg.JoinOperations && !req.Partial {
		return ""
	}
	r.mu.Lock()
	r.wantPullLocked(from) // it holds something
	r.mu.Unlock()
	t := time.NewTimer(joinWait)
	defer t.Stop()
	select {
	case <-r.caught:
		return ""
	case <-t.C:
	case <-ctx.Done():
	}
	if r.cfg.Store.View().Applied() > 0 {
		return ""
	}
	return "this replica is empty: it takes the state of another first"
}

// admit takes a place among the requests that are answered, and some bytes of the budget. Else wait says when to come again.
func (r *Replica) admit(want int) (bytes int, leave func(), wait time.Duration) {
	select {
	case r.serving <- struct{}{}:
	default:
		return 0, nil, r.turnAway(time.Duration(200+rand.N(400)) * time.Millisecond)
	}
	leave = func() { <-r.serving }
	if want <= 0 {
		return 0, leave, 0
	}
	bytes, wait = r.budget.ask(min(want, r.cfg.MessageBytes))
	if bytes == 0 {
		leave()
		return 0, nil, r.turnAway(jitter(wait + 50*time.Millisecond))
	}
	return bytes, leave, 0
}

func (r *Replica) turnAway(wait time.Duration) time.Duration {
	r.count(func(c *Counts) { c.Busy++ })
	return max(wait, time.Millisecond)
}

// servePull answers with what the asker lacks.
func (r *Replica) servePull(_ context.Context, from string, body []byte) ([]byte, error) {
	var req pullRequest
	if err := decode(body, &req); err != nil {
		r.count(func(c *Counts) { c.Refused++ })
		return nil, err
	}
	wanted := req.Bytes
	if req.Protocol < protocol {
		wanted = max(wanted, 1)
	}
	bytes, leave, wait := r.admit(wanted)
	if wait > 0 {
		return encode(pullAnswer{Busy: true, RetryMS: int(wait.Milliseconds()), Protocol: protocol, Wall: r.cfg.Clock.Now().UnixNano()})
	}
	defer leave()
	var answer pullAnswer
	var err error
	switch {
	case req.Protocol < protocol:
		err = r.answerOld(&req, &answer, bytes)
	case len(req.Want) > 0:
		err = r.answerWant(unpackPairs(req.Want), &answer, bytes)
	default:
		err = r.answerComparison(from, &req, &answer, bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("pull of node %s: %w", from, err)
	}
	r.count(func(c *Counts) { c.ServedOps += uint64(len(answer.Ops)) })
	answer.Protocol, answer.Wall = protocol, r.cfg.Clock.Now().UnixNano()
	return encode(answer)
}

// describe fills in what is told about this replica's state.
func (r *Replica) describe(answer *pullAnswer, v hostdb.View) {
	answer.Version = v.Version().String()
	answer.Algorithm = hostdb.DigestAlgorithm
	answer.Digests = digests(v)
}

// answerComparison says what differs, and gives what the asker lacks if it named its heads.
func (r *Replica) answerComparison(from string, req *pullRequest, answer *pullAnswer, bytes int) error {
	answer.Floor = r.cfg.Store.Floor() // before the view: what is written in between has a higher stamp, and is not in the view
	pic, theirs := r.picture(), unpackHeads(req.Heads)
	r.describe(answer, pic.view)
	answer.Retired, answer.Held, answer.Late = pic.retired, pic.held, pic.view.Unfolded() > 0
	if len(theirs) == 0 && req.Version == emptyVersion {
		answer.Partial = r.partial()
	}
	if req.Version == pic.version {
		r.learn(from, req.Version, pic, nil)
		return nil
	}
	answer.Mask = diffBuckets(pic, theirs, req.Sums)
	if req.Retired != pic.retired || answer.Mask == 0 {
		answer.All, answer.Mask = true, 0
		answer.Heads = packHeads(pic.all())
		return nil
	}
	answer.Heads = packHeads(pic.inBuckets(answer.Mask))
	if len(req.Sums) > 0 {
		return nil
	}
	d := compareHeads(pic.heads, theirs) // seen from here: what the asker lacks is missing there
	r.learn(from, req.Version, pic, d.theirs)
	return r.give(d.missing, answer, bytes)
}

// emptyVersion is the version of a replica without operations.
var emptyVersion = hostdb.View{}.Version().String()

// partial reports whether there are operations that the state here is made of and that are not held one by one.
func (r *Replica) partial() bool {
	_, dropped, err := r.cfg.Store.Horizon()
	return dropped || err != nil || r.cfg.Store.Missing() > 0
}

// diffBuckets are the buckets in which the asker's heads differ from ours.
func diffBuckets(pic *picture, theirs []shortHead, sums []uint64) uint64 {
	if len(sums) == 0 {
		sums = make([]uint64, bucketCount)
		for _, h := range theirs {
			sums[bucket(h.origin)] += h.sum()
		}
	}
	var mask uint64
	for i, sum := range sums {
		if pic.sums[i] != sum {
			mask |= 1 << i
		}
	}
	return mask
}

// learn notes what an asker said it holds.
func (r *Replica) learn(from, version string, pic *picture, over []pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.roster.has(from) {
		p := r.peerLocked(from)
		p.protocol = protocol
		p.saidVersion(version)
		r.comparedLocked(p, pic, over)
	}
}

// answerWant gives operations that were asked for by name.
func (r *Replica) answerWant(want []pair, answer *pullAnswer, bytes int) error {
	answer.Version = r.cfg.Store.View().Version().String()
	return r.give(want, answer, bytes)
}

// give puts operations of origins after those that are held into an answer.
func (r *Replica) give(want []pair, answer *pullAnswer, bytes int) error {
	v, began := r.cfg.Store.View(), time.Now()
	for _, w := range want {
		seq := v.Seq(w.origin)
		if w.seq >= seq {
			continue
		}
		if bytes <= 0 || time.Since(began) > turn {
			answer.More = true
			break
		}
		ops, err := r.cfg.Store.Operations(w.origin, w.seq, bytes)
		if gone(err) {
			answer.Gone = append(answer.Gone, w.origin)
			continue
		}
		if err != nil {
			return err
		}
		sent := 0
		for _, op := range ops {
			sent += len(op)
		}
		bytes -= sent
		r.budget.spend(sent)
		answer.Ops = append(answer.Ops, ops...)
		if w.seq+uint64(len(ops)) < seq {
			answer.More = true
		}
	}
	return nil
}

// answerOld answers a peer of the old protocol: it names all it holds, and is told all we do.
func (r *Replica) answerOld(req *pullRequest, answer *pullAnswer, bytes int) error {
	answer.Floor = r.cfg.Store.Floor()
	v := r.cfg.Store.View()
	r.describe(answer, v)
	answer.Vector = map[uint64]uint64{}
	var missing []pair
	for origin, seq := range v.Vector() {
		answer.Vector[origin] = seq
		if have := req.Vector[origin]; have < seq {
			missing = append(missing, pair{origin, have})
		}
	}
	return r.give(missing, answer, bytes)
}

// digests are those of all namespaces of a view.
func digests(v hostdb.View) map[string]string {
	out := map[string]string{}
	for _, ns := range v.Namespaces() {
		out[ns] = v.Digest(ns)
	}
	return out
}
