package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/integration/wires"
	"hostmesh/node/api"
)

// kind is what a write does.
type kind uint8

const (
	putDoc kind = iota
	putPath
	deletePath
	deleteKey
	rename
	addMember
	removeMember
	setMembers
	transaction
	putOnce    // of a key that is written once
	deleteOnce // and deleted once, somewhere
	putPerms
)

// A writer at home writes to one agent, and alone to its keys: each of them must end up as the writes that stand say,
// one after the other. A roamer goes from agent to agent; it makes keys that nobody else writes, and fights with the
// other roamers over those that all share.
type writer struct {
	soak   *soak
	id     int
	home   *agent // nil for a roamer
	ledger ledger
	rng    *rand.Rand
	next   int            // of a roamer: the agent to go to
	avoid  [agents]int    // how many turns it leaves out one that did not answer
	made   []int          // numbers of putOnce that are to be deleted
	other  [homeKeys]bool // which of the two names a key has, as far as the writer knows
}

const (
	homeKeys    = 8  // hosts of a writer at home
	homeTags    = 3  // and its tags
	sharedKeys  = 24 // hosts that the roamers share
	sharedTags  = 6
	keptOnce    = 20 // keys that a roamer has made and not yet deleted
	answersIn   = 6 * time.Second
	avoidTurns  = 12
	padding     = 120
	shareFields = 5
)

// host is one of its hosts, by one of the two names that it is given in turn.
func (w *writer) host(k int, other bool) string {
	if other {
		return fmt.Sprintf("w%d-host%d-other", w.id, k)
	}
	return fmt.Sprintf("w%d-host%d", w.id, k)
}

func (w *writer) tag(k int) string { return fmt.Sprintf("w%d-tag%d", w.id, k) }

func sharedHost(k int) string { return fmt.Sprintf("shared-host%d", k) }
func sharedTag(k int) string  { return fmt.Sprintf("shared-tag%d", k) }
func (w *writer) once(n int) string {
	return fmt.Sprintf("once-%s", token(w.id, n))
}

// run makes a write for each turn until there are no more.
func (w *writer) run(ctx context.Context, turns <-chan struct{}) {
	for {
		if w.home != nil && w.avoid[w.home.number] > 0 { // it runs no way, but to wait
			w.avoid[w.home.number]--
			if !wires.Pause(ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case _, more := <-turns:
			if !more {
				return
			}
		}
		if w.home != nil {
			w.homeTurn(ctx)
		} else {
			w.roam(ctx)
		}
	}
}

// send enters the write into the ledger, makes it, and enters what became of it.
func (w *writer) send(ctx context.Context, to *agent, e write, do func(ctx context.Context, c *api.Client, tok string) (revision string, err error)) outcome {
	e.agent, e.began = uint8(to.number), w.soak.clock()
	n := w.ledger.begin(e)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answersIn) // an answer is waited for even at the end
	defer cancel()
	text, err := do(ctx, to.api, token(w.id, n))
	o := judge(err, text)
	var revision hostdb.Stamp
	if o == acked {
		if revision, err = hostdb.ParseStamp(text); err != nil {
			w.soak.defect("%s acknowledged %s with revision %q: %v", to.name, token(w.id, n), text, err)
		}
		to.acked.Add(1)
	}
	w.ledger.end(n, o, revision, w.soak.clock())
	w.soak.count(o, err)
	var e2 *api.Error
	if err != nil && !errors.As(err, &e2) {
		w.avoid[to.number] = avoidTurns
	}
	return o
}

func revisionOf(wr api.Written, err error) (string, error) { return wr.Revision, err }

// document is a host's data of which each leaf names the write. Net/B can go without leaving an empty mapping.
func document(tok string, rng *rand.Rand) []byte {
	pad := make([]byte, rng.IntN(padding)+1)
	for i := range pad {
		pad[i] = byte('a' + rng.IntN(26))
	}
	return fmt.Appendf(nil, "{By: %s, Pad: %s%s, Net: {A: %s, B: %s}}", tok, tok, pad, tok, tok)
}

// homeTurn makes one write to the writer's own keys.
func (w *writer) homeTurn(ctx context.Context) {
	k, k2, t := w.rng.IntN(homeKeys), w.rng.IntN(homeKeys), w.rng.IntN(homeTags)
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
	host := w.host(k, w.other[k])
	e := write{key: uint8(k)}
	var do func(context.Context, *api.Client, string) (string, error)
	switch p := w.rng.IntN(100); {
	case p < 30:
		e.kind = putDoc
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Put(ctx, "hosts/"+host, document(tok, rng), tok))
		}
	case p < 50:
		e.kind = putPath
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Put(ctx, "hosts/"+host+"/Net/A", []byte(tok), tok))
		}
	case p < 56:
		e.kind = deletePath
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Delete(ctx, "hosts/"+host+"/Net/B", tok))
		}
	case p < 62:
		e.kind = deleteKey
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Delete(ctx, "hosts/"+host, tok))
		}
	case p < 68:
		e.kind = rename
		to := w.host(k, !w.other[k])
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Rename(ctx, "hosts/"+host, to, tok))
		}
	case p < 78:
		e.kind, e.tag = addMember, uint8(t)
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.AddMember(ctx, "tags/"+w.tag(t), host, tok))
		}
	case p < 84:
		e.kind, e.tag = removeMember, uint8(t)
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.RemoveMember(ctx, "tags/"+w.tag(t), host, tok))
		}
	case p < 88:
		e.kind, e.tag = setMembers, uint8(t)
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.SetMembers(ctx, "tags/"+w.tag(t), host+"\n", tok))
		}
	default:
		e.kind, e.key2 = transaction, uint8(k2)
		host2 := w.host(k2, w.other[k2])
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			r, err := c.Txn(ctx, api.Txn{Log: tok, Effects: []api.Effect{
				{Op: "put_path", ID: "hosts/" + host + "/Net/A", Value: quoted(tok)},
				{Op: "put_path", ID: "hosts/" + host2 + "/By", Value: quoted(tok)},
			}}, 0)
			return r.Revision, err
		}
	}
	e.other, e.other2 = w.other[k], w.other[k2]
	switch o := w.send(ctx, w.home, e, do); {
	case e.kind == rename && (o == acked || o == refused && w.rng.IntN(2) == 0):
		w.other[k] = !w.other[k] // after a refusal it may have the other name since a write that was unknown
	case o == refused && w.rng.IntN(4) == 0:
		w.other[k] = !w.other[k]
	}
}

func quoted(text string) json.RawMessage {
	out, err := json.Marshal(text)
	if err != nil {
		panic(err) // a text always is JSON
	}
	return out
}

// roam makes one write at the next agent.
func (w *writer) roam(ctx context.Context) {
	var to *agent
	for range 2 * len(w.soak.agents) {
		to = w.soak.agents[w.next%len(w.soak.agents)]
		w.next++
		if w.avoid[to.number] == 0 {
			break
		}
		w.avoid[to.number]--
	}
	k, k2, t := w.rng.IntN(sharedKeys), w.rng.IntN(sharedKeys), w.rng.IntN(sharedTags)
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
	host, host2, tag := "hosts/"+sharedHost(k), "hosts/"+sharedHost(k2), "tags/"+sharedTag(t)
	field := fmt.Sprintf("%s/F%d", host, w.rng.IntN(shareFields))
	var e write
	var do func(context.Context, *api.Client, string) (string, error)
	p := w.rng.IntN(100)
	switch {
	case p < 20 && len(w.made) >= keptOnce:
		e.kind = deleteOnce
		n := w.made[0]
		e.of = int32(n)
		if w.send(ctx, to, e, func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Delete(ctx, "hosts/"+w.once(n), tok))
		}) == refused {
			w.made = append(w.made[1:], n) // that agent has not heard of it, or does not write: later, elsewhere
		} else {
			w.made = w.made[1:]
		}
		return
	case p < 20:
		e.kind = putOnce
		n := len(w.ledger.writes)
		if w.send(ctx, to, e, func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Put(ctx, "hosts/"+w.once(n), document(tok, rng), tok))
		}) == acked {
			w.soak.made.Add(1)
			w.made = append(w.made, n)
		}
		return
	case p < 45:
		e.kind = putPath
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Put(ctx, field, []byte(tok), tok))
		}
	case p < 62:
		e.kind = putDoc
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Put(ctx, host, fmt.Appendf(nil, "{F0: %s, F1: %s, F%d: %s}", tok, tok, 2+rng.IntN(3), tok), tok))
		}
	case p < 67:
		e.kind = deleteKey
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Delete(ctx, host, tok))
		}
	case p < 71:
		e.kind = rename
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Rename(ctx, host, strings.TrimPrefix(host2, "hosts/"), tok))
		}
	case p < 80:
		e.kind = addMember
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.AddMember(ctx, tag, strings.TrimPrefix(host, "hosts/"), tok))
		}
	case p < 86:
		e.kind = removeMember
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.RemoveMember(ctx, tag, strings.TrimPrefix(host, "hosts/"), tok))
		}
	case p < 89:
		e.kind = setMembers
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.SetMembers(ctx, tag, sharedHost(k)+"\n# "+tok+"\n"+sharedHost((k+1)%sharedKeys)+"\n", tok))
		}
	case p < 91:
		e.kind = putPerms
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			return revisionOf(c.Put(ctx, tag+"/perms", []byte(tok+": {data: RW, members: RW}\n"), tok))
		}
	default:
		e.kind = transaction
		do = func(ctx context.Context, c *api.Client, tok string) (string, error) {
			r, err := c.Txn(ctx, api.Txn{Log: tok, Effects: []api.Effect{
				{Op: "put", ID: host, Value: json.RawMessage(`{"F0":"` + tok + `","F1":"` + tok + `"}`)},
				{Op: "put", ID: host2, Value: json.RawMessage(`{"F2":"` + tok + `","F3":"` + tok + `"}`)},
				{Op: "put", ID: tag, Value: json.RawMessage(`{"By":"` + tok + `"}`)},
			}}, 0)
			return r.Revision, err
		}
	}
	w.send(ctx, to, e, do)
}
