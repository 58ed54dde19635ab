package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// exam is one examination: the documents, read once for all checks, and what the present check has found.
type exam struct {
	ctx  context.Context
	view hostdb.View
	opts Options

	hosts  []*host // sorted by key
	byHost map[string]*host
	tags   []*tag // sorted by key
	byTag  map[string]*tag
	zones  map[string][]*tag // name of a zone -> tags that feed it

	check string
	found []Finding
}

type host struct {
	key      string
	doc      hostdb.Document
	facts    section.Host
	problems []section.Problem
	feeders  []*tag // tags with a zone of which it is a member
}

type tag struct {
	key      string
	doc      hostdb.Document
	facts    section.Tag
	problems []section.Problem
	zone     string // in normal form; empty for none
}

func (h *host) id() string { return hostdb.Hosts + "/" + h.key }
func (t *tag) id() string  { return hostdb.Tags + "/" + t.key }

func (h *host) retired() bool { return h.facts.Status == section.Retired }

// gather reads all hosts and tags. Once ctx has ended it stops, and the exam is over.
func gather(ctx context.Context, view hostdb.View, opts Options) *exam {
	e := &exam{ctx: ctx, view: view, opts: opts, byHost: map[string]*host{}, byTag: map[string]*tag{}, zones: map[string][]*tag{}}
	for key := range view.Keys(hostdb.Hosts) {
		if e.over() {
			return e
		}
		h := &host{key: key, doc: view.Data(hostdb.Hosts, key)}
		h.facts, h.problems = section.HostOf(h.doc)
		e.hosts = append(e.hosts, h)
		e.byHost[key] = h
	}
	for key := range view.Keys(hostdb.Tags) {
		if e.over() {
			return e
		}
		t := &tag{key: key, doc: view.Data(hostdb.Tags, key)}
		t.facts, t.problems = section.TagOf(t.doc)
		e.tags = append(e.tags, t)
		e.byTag[key] = t
		if t.facts.DNS == nil || t.facts.DNS.Zone == "" {
			continue
		}
		t.zone = hostdb.NormalName(t.facts.DNS.Zone)
		e.zones[t.zone] = append(e.zones[t.zone], t)
		for _, name := range view.Members(hostdb.Tags, key) {
			if h := e.byHost[name]; h != nil {
				h.feeders = append(h.feeders, t)
			}
		}
	}
	return e
}

// over reports whether there is no more time.
func (e *exam) over() bool { return e.ctx.Err() != nil }

// inUse yields the hosts that are not retired.
func (e *exam) inUse(fn func(h *host)) {
	for _, h := range e.hosts {
		if e.over() {
			return
		}
		if !h.retired() {
			fn(h)
		}
	}
}

func (e *exam) eachTag(fn func(t *tag)) {
	for _, t := range e.tags {
		if e.over() {
			return
		}
		fn(t)
	}
}

// namespaces are those that people write.
func (e *exam) namespaces() []string {
	return slices.DeleteFunc(e.view.Namespaces(), func(ns string) bool { return ns == hostdb.System })
}

func (e *exam) add(f Finding) {
	f.Check = e.check
	slices.SortFunc(f.Related, func(a, b string) int { // hosts last: there may be many
		return cmp.Or(strings.Compare(hostsLast(a), hostsLast(b)), strings.Compare(a, b))
	})
	f.Related = slices.Compact(f.Related)
	e.found = append(e.found, f)
}

func hostsLast(id string) string {
	if strings.HasPrefix(id, hostdb.Hosts+"/") {
		return "1"
	}
	return "0"
}

// path is a path as people write it.
func path(keys ...string) string { return strings.Join(keys, "/") }

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// enumerate is a few words joined for a sentence.
func enumerate(words []string) string {
	const most = 5
	switch n := len(words); {
	case n == 0:
		return "none"
	case n == 1:
		return words[0]
	case n > most:
		return strings.Join(words[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}
