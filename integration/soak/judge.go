package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/integration/wires"
	"hostmesh/node/api"
)

// settle is how long healed agents have to become equal. A clock that was ahead by minutes has to be waited for.
const settle = 5 * time.Minute

// judge waits until all agents hold the same, and looks for what they should hold.
func (s *soak) judge(ctx context.Context) error {
	for _, a := range s.agents {
		a.want(true)
	}
	begin := time.Now()
	if err := s.allServe(ctx, 2*time.Minute); err != nil {
		return err
	}
	var all []api.Digests
	err := wires.Until(ctx, settle, 100*time.Millisecond, func() (err error) {
		all, err = s.digests(ctx)
		return err
	})
	if err != nil {
		s.defect("the agents do not become equal: %v", err)
	} else {
		s.say("all versions are equal %s after the last fault was healed: %s", round(time.Since(begin)), all[0].Version)
	}
	for i, d := range all {
		for _, ns := range slices.Sorted(maps.Keys(all[0].Namespaces)) {
			if d.Namespaces[ns] != all[0].Namespaces[ns] || len(d.Namespaces) != len(all[0].Namespaces) {
				s.defect("at equal versions %s has digest %s of %s, and %s has %s", s.agents[i].name, d.Namespaces[ns], ns, s.agents[0].name, all[0].Namespaces[ns])
			}
		}
	}
	found := s.newFound()
	for i, a := range s.agents {
		got := s.newFound()
		n, err := s.readHistory(ctx, a, got)
		if err != nil {
			return err
		}
		s.say("%s: %d revisions of writers in its history", a.name, n)
		s.judgeHistory(a, got)
		if i == 0 {
			found = got
		} else if !slices.EqualFunc(found, got, slices.Equal) {
			s.defect("the history of %s is not that of %s", a.name, s.agents[0].name)
		}
	}
	for _, a := range s.agents {
		for _, w := range s.writers {
			var err error
			if w.home != nil {
				err = s.judgeHome(ctx, a, w, found[w.id])
			} else {
				err = s.judgeOnce(ctx, a, w, found[w.id])
			}
			if err != nil {
				return err
			}
		}
		if err := s.judgeShared(ctx, a, found); err != nil {
			return err
		}
	}
	return nil
}

// digests are those of all agents, when their versions are equal.
func (s *soak) digests(ctx context.Context) ([]api.Digests, error) {
	var out []api.Digests
	for _, a := range s.agents {
		d, err := a.api.Digest(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	for i, d := range out {
		if d.Version != out[0].Version || d.Algorithm != out[0].Algorithm {
			return nil, fmt.Errorf("%s is at version %s, and %s at %s", s.agents[i].name, d.Version, s.agents[0].name, out[0].Version)
		}
	}
	return out, nil
}

// newFound has a place for the revision of each write, by writer and number; zero is one that was not found.
func (s *soak) newFound() [][]hostdb.Stamp {
	out := make([][]hostdb.Stamp, len(s.writers))
	for i, w := range s.writers {
		out[i] = make([]hostdb.Stamp, len(w.ledger.writes))
	}
	return out
}

// readHistory fills found with what an agent's history has, and counts it.
func (s *soak) readHistory(ctx context.Context, a *agent, found [][]hostdb.Stamp) (n int, err error) {
	before := ""
	for {
		page, err := a.api.Revisions(ctx, "", api.RevisionQuery{Before: before, Limit: 1000})
		if err != nil {
			return 0, fmt.Errorf("the history of %s: %w", a.name, err)
		}
		for _, r := range page.Revisions {
			writer, number, ours := parseToken(r.Log)
			if !ours {
				continue
			}
			if writer >= len(found) || number >= len(found[writer]) {
				s.defect("%s has revision %s of a write that nobody made: %s", a.name, r.ID, r.Log)
				continue
			}
			at, err := hostdb.ParseStamp(r.ID)
			if err != nil {
				return 0, fmt.Errorf("the history of %s: %w", a.name, err)
			}
			if was := found[writer][number]; !was.IsZero() {
				s.defect("%s has write %s twice: as %s and %s", a.name, r.Log, was, r.ID)
			}
			found[writer][number] = at
			n++
		}
		if !page.More {
			return n, nil
		}
		before = page.Next
	}
}

// judgeHistory holds an agent's history against the ledgers: what was acknowledged is there under its revision, what was
// refused is not, and what one writer wrote to one agent is in its order.
func (s *soak) judgeHistory(a *agent, found [][]hostdb.Stamp) {
	for _, w := range s.writers {
		var last hostdb.Stamp
		for n, e := range w.ledger.writes {
			at := found[w.id][n]
			switch {
			case e.outcome == acked && at.IsZero():
				s.defect("LOST at %s: %s, which %s acknowledged %s into the run as %s", a.name, token(w.id, n), s.agents[e.agent].name, round(e.answered), e.revision)
			case e.outcome == acked && at != e.revision:
				s.defect("%s has %s as %s, and %s acknowledged it as %s", a.name, token(w.id, n), at, s.agents[e.agent].name, e.revision)
			case (e.outcome == refused || e.outcome == idle) && !at.IsZero():
				s.defect("%s has %s as %s, and %s answered that it does not stand", a.name, token(w.id, n), at, s.agents[e.agent].name)
			}
			if w.home != nil && e.outcome == acked {
				if !last.Less(e.revision) {
					s.defect("%s gave %s the revision %s, after it had answered another with %s", w.home.name, token(w.id, n), e.revision, last)
				}
				last = e.revision
			}
		}
	}
}

// doc is what a host of a writer holds: leaf to the write that it names.
type doc map[string]string

// home is the state of a writer's own keys.
type home struct {
	hosts map[string]doc
	tags  map[string]map[string]bool
}

// replay is what the writes that stand, one after the other, make of a writer's keys.
func replay(w *writer, found []hostdb.Stamp) home {
	var order []int
	for n := range w.ledger.writes {
		if !found[n].IsZero() {
			order = append(order, n)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return found[a].Compare(found[b]) })
	h := home{hosts: map[string]doc{}, tags: map[string]map[string]bool{}}
	for t := range homeTags {
		h.tags[w.tag(t)] = map[string]bool{}
	}
	for _, n := range order {
		e, tok := w.ledger.writes[n], token(w.id, n)
		host, tag := w.host(int(e.key), e.other), h.tags[w.tag(int(e.tag))]
		set := func(host, leaf string) {
			if h.hosts[host] != nil {
				h.hosts[host][leaf] = tok
			}
		}
		switch e.kind {
		case putDoc:
			h.hosts[host] = doc{"By": tok, "Pad": tok, "A": tok, "B": tok}
		case putPath:
			set(host, "A")
		case deletePath:
			delete(h.hosts[host], "B")
		case deleteKey:
			delete(h.hosts, host)
			for _, members := range h.tags {
				delete(members, host)
			}
		case rename:
			to := w.host(int(e.key), !e.other)
			h.hosts[to] = h.hosts[host]
			delete(h.hosts, host)
			for _, members := range h.tags {
				if members[host] {
					delete(members, host)
					members[to] = true
				}
			}
		case addMember:
			tag[host] = true
		case removeMember:
			delete(tag, host)
		case setMembers:
			clear(tag)
			tag[host] = true
		case transaction:
			set(host, "A")
			set(w.host(int(e.key2), e.other2), "By")
		}
	}
	return h
}

// judgeHome compares a writer's own keys at an agent with what they must be.
func (s *soak) judgeHome(ctx context.Context, a *agent, w *writer, found []hostdb.Stamp) error {
	want := replay(w, found)
	for k := range homeKeys {
		for _, other := range []bool{false, true} {
			host := w.host(k, other)
			got, err := readDoc(ctx, a, host)
			if err != nil {
				return err
			}
			if !maps.Equal(got, want.hosts[host]) {
				s.defect("%s at %s is %v; the writes that stand make it %v", host, a.name, got, want.hosts[host])
			}
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(want.tags)) {
		got, err := a.api.MembersOf(ctx, "tags/"+tag)
		if err != nil {
			return fmt.Errorf("members of %s at %s: %w", tag, a.name, err)
		}
		if members := slices.Sorted(maps.Keys(want.tags[tag])); !slices.Equal(got, members) {
			s.defect("%s at %s has the members %v; the writes that stand make it %v", tag, a.name, got, members)
		}
	}
	return nil
}

// readDoc is the leaves of a host; nil when there is none.
func readDoc(ctx context.Context, a *agent, host string) (doc, error) {
	text, err := a.api.Get(ctx, "hosts/"+host)
	if errors.Is(err, api.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", host, a.name, err)
	}
	parsed, err := hostdb.ParseDocument(text)
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", host, a.name, err)
	}
	out := doc{}
	var leaves func(d hostdb.Document)
	leaves = func(d hostdb.Document) {
		for name, value := range d.Keys() {
			if value.IsMapping() {
				leaves(value)
				continue
			}
			text := fmt.Sprint(value.Any())
			if name == "Pad" {
				text = strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
			}
			out[name] = text
		}
	}
	leaves(parsed)
	return out, nil
}

// judgeOnce looks for the keys that a roamer made: each must be there as it was written, unless its delete stands.
func (s *soak) judgeOnce(ctx context.Context, a *agent, w *writer, found []hostdb.Stamp) error {
	gone := map[int]bool{}
	for n, e := range w.ledger.writes {
		if e.kind == deleteOnce && !found[n].IsZero() {
			gone[int(e.of)] = true
		}
	}
	keys, err := s.hosts(ctx, a)
	if err != nil {
		return err
	}
	for n, e := range w.ledger.writes {
		if e.kind != putOnce {
			continue
		}
		host := w.once(n)
		there, should := keys[host], !found[n].IsZero() && !gone[n]
		switch {
		case there && !should:
			s.defect("%s is at %s, although it was deleted or never written", host, a.name)
		case !there && should:
			s.defect("%s, written as %s by %s, is not at %s", host, found[n], token(w.id, n), a.name)
		case there:
			tok := token(w.id, n)
			got, err := readDoc(ctx, a, host)
			if err != nil {
				return err
			}
			if want := (doc{"By": tok, "Pad": tok, "A": tok, "B": tok}); !maps.Equal(got, want) {
				s.defect("%s at %s is %v, and was written as %v", host, a.name, got, want)
			}
		}
	}
	return nil
}

func (s *soak) hosts(ctx context.Context, a *agent) (map[string]bool, error) {
	list, err := a.api.List(ctx, "hosts")
	if err != nil {
		return nil, fmt.Errorf("hosts of %s: %w", a.name, err)
	}
	out := map[string]bool{}
	for _, host := range list {
		out[host] = true
	}
	return out, nil
}

// judgeShared looks at what all roamers wrote: which of them won is not known here, but each value is from a write that
// is in the history.
func (s *soak) judgeShared(ctx context.Context, a *agent, found [][]hostdb.Stamp) error {
	for k := range sharedKeys {
		got, err := readDoc(ctx, a, sharedHost(k))
		if err != nil {
			return err
		}
		for leaf, tok := range got {
			writer, n, ok := parseToken(tok)
			if !ok || writer >= len(found) || n >= len(found[writer]) || found[writer][n].IsZero() {
				s.defect("%s at %s has %s %q, which is of no write in the history", sharedHost(k), a.name, leaf, tok)
			}
		}
	}
	return nil
}
