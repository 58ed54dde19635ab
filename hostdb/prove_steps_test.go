package hostdb_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// The names and values that collide.
var (
	proveHosts = []string{"h1", "h2", "h3"}
	proveTags  = []string{"t1", "t2", "t3"}
	provePaths = [][]string{{"a"}, {"b"}, {"a", "x"}, {"a", "y"}, {"a", "x", "deep"}, {"Network"}, {"Network", "IP"}, {"Network", "cname"}, {"Status"}, {"Interfaces", "eth0", "IP"}}
	proveDocs  = []string{"", "1", "0755", "retired", "10.0.0.1", "{}", "[]", "[p, q]", "[www, web]", "www", "{x: 1, y: 2}", "{x: {deep: 1}}", "{x: {}}", "{a: {x: 1}, Network: {IP: 10.0.0.2}}",
		"{a: {}, b: 2}", "{Network: {IP: 10.0.0.1, cname: www}, Status: active}", "{Interfaces: {eth0: {IP: 10.0.0.1}}}"}
	provePerms   = []string{"", "ops: {data: RW}", "alice: {data/DNS: RW, members: RO}", "bob: {perms: RW}"}
	proveMembers = []string{"h1", "h2", "h3", "@t1", "@t2", "@t3"}
)

func draw[V any](w *world, label string, from []V) V { return rapid.SampledFrom(from).Draw(w.T, label) }

func (w *world) document() hostdb.Document {
	d, err := hostdb.ParseDocument([]byte(draw(w, "doc", proveDocs)))
	if err != nil {
		w.Fatalf("document: %v", err)
	}
	return d
}

// place is a namespace, and the keys that are used in it.
func (w *world) place() (ns string, keys []string) {
	switch rapid.IntRange(0, 11).Draw(w.T, "namespace") {
	case 0:
		return hostdb.System, []string{"s1"}
	case 1:
		return "extra", proveTags
	case 2, 3, 4, 5:
		return hostdb.Tags, append([]string{hostdb.AllTag}, proveTags...)
	default:
		return hostdb.Hosts, proveHosts
	}
}

// change is one thing that a person at r could do.
func (w *world) change(r *replica) func(*hostdb.Tx) error {
	ns, keys := w.place()
	key, other, path := draw(w, "key", keys), draw(w, "other", keys), draw(w, "path", provePaths)
	listNS, list := ns, key
	if listNS != "extra" {
		listNS, list = hostdb.Tags, draw(w, "list", proveTags)
	}
	switch rapid.IntRange(0, 22).Draw(w.T, "what") {
	case 0, 1, 2:
		doc := w.document()
		return func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) }
	case 3, 4: // of what was read: all as it was but for one field
		etag, read := r.etags[refKey{ns, key}]
		doc := w.document()
		return func(tx *hostdb.Tx) error {
			item, _ := tx.View().Get(ns, key)
			if now := item.ETag(hostdb.Data); read && now != etag {
				return errStale
			}
			if next, err := item.Data().With(hostdb.PathOf(path...), doc); err == nil {
				return tx.Put(ns, key, next)
			}
			return tx.Put(ns, key, doc)
		}
	case 5, 6, 7, 8:
		doc := w.document()
		return func(tx *hostdb.Tx) error { return tx.PutPath(ns, key, path, doc) }
	case 9, 10:
		return func(tx *hostdb.Tx) error { return tx.DeletePath(ns, key, path) }
	case 11:
		return func(tx *hostdb.Tx) error { return tx.RenamePath(ns, key, path, "z") }
	case 12, 13:
		return func(tx *hostdb.Tx) error { return tx.Delete(ns, key) }
	case 14, 15:
		return func(tx *hostdb.Tx) error { return tx.Rename(ns, key, other) }
	case 16, 17:
		name := draw(w, "member", proveMembers)
		return func(tx *hostdb.Tx) error { return tx.AddMember(listNS, list, name) }
	case 18:
		name := draw(w, "member", proveMembers)
		return func(tx *hostdb.Tx) error { return tx.RemoveMember(listNS, list, name) }
	case 19:
		name, to := draw(w, "member", proveMembers), draw(w, "to", proveMembers)
		return func(tx *hostdb.Tx) error { return tx.RenameMember(listNS, list, name, to) }
	case 20:
		names := rapid.Permutation(proveMembers).Draw(w.T, "order")[:rapid.IntRange(0, 5).Draw(w.T, "length")]
		var members []hostdb.Member
		for i, name := range names {
			members = append(members, hostdb.Member{Name: name, Text: strings.Repeat("# note\n", i%2)})
		}
		if rapid.Bool().Draw(w.T, "a last comment") {
			members = append(members, hostdb.Member{Text: "# end\n"})
		}
		return func(tx *hostdb.Tx) error { return tx.SetMembers(listNS, list, members) }
	case 21:
		acl, err := hostdb.ParseACL([]byte(draw(w, "perms", provePerms)))
		if err != nil {
			w.Fatalf("perms: %v", err)
		}
		if rapid.IntRange(0, 3).Draw(w.T, "of the namespace") == 0 {
			key = hostdb.DefaultKey
		}
		return func(tx *hostdb.Tx) error { return tx.SetPerms(ns, key, acl) }
	default:
		return func(tx *hostdb.Tx) error { return tx.CreateNamespace("extra") }
	}
}

// changes are one to three in one operation. Some end at the first that is refused, some leave it out.
func (w *world) changes(r *replica) func(*hostdb.Tx) error {
	var fns []func(*hostdb.Tx) error
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(w.T, "at once") {
		fns = append(fns, w.change(r))
	}
	lenient := rapid.Bool().Draw(w.T, "leave out")
	return func(tx *hostdb.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil && !(lenient && refused(err)) {
				return err
			}
		}
		return nil
	}
}

// rollback is one of the ways back: of a key, of a key that had another name, of a whole revision.
func (w *world) rollback(r *replica) func(*hostdb.Tx) error {
	list := revisionsOf(w, &r.box)
	if len(list) == 0 {
		return w.changes(r)
	}
	rev := list[rapid.IntRange(0, len(list)-1).Draw(w.T, "revision")]
	then := at(w, &r.box, rev.ID)
	ns, keys := w.place()
	key, former := draw(w, "key", keys), draw(w, "former", keys)
	what := draw(w, "part", []hostdb.Resource{"", hostdb.Data, hostdb.Members, hostdb.Perms})
	switch rapid.IntRange(0, 3).Draw(w.T, "way back") {
	case 0:
		return func(tx *hostdb.Tx) error { return tx.Restore(then, ns, key, what) }
	case 1:
		return func(tx *hostdb.Tx) error { return tx.RestoreFrom(then, ns, former, key, what) }
	default:
		before, force := at(w, &r.box, rev.ID.Before()), rapid.Bool().Draw(w.T, "force")
		return func(tx *hostdb.Tx) error { return tx.Undo(rev, before, then, force) }
	}
}

// dropNamespace is what a version that can remove namespaces would write, under a run of its own.
func (w *world) dropNamespace(r *replica, ns string) {
	v := r.store.View()
	if !v.HasNamespace(ns) {
		return
	}
	past := vectorOf(v)
	newest, saw := hostdb.TimeOf(r.clock.now), hostdb.Stamp{}
	for _, x := range w.held(past) {
		newest = max(newest, x.op.Time+1)
		if _, touches := x.knew[refKey{ns, ""}]; touches {
			saw = newer(saw, x.op.Stamp())
		}
	}
	w.extra++
	raws := foreign(w, uint64(w.extra), newest, nil, []hostdb.Effect{{Kind: hostdb.DeleteKey, NS: ns, Replaces: &saw}})
	w.record(past, raws[0])
	w.flying = append(w.flying, raws)
	w.take(r, raws)
}

// crash ends r at one of the next commits that do causes, as kill -9 would.
func (w *world) crash(r *replica, do func()) {
	var left *hostdbtest.Memory
	n := rapid.IntRange(0, 4).Draw(w.T, "commits before the crash")
	hook := func([]hostdb.Put) error {
		if n--; n == -1 {
			left = r.storage.Snapshot()
		}
		return nil
	}
	r.storage.SetHooks(hostdbtest.Hooks{Before: hook, After: hook})
	do()
	r.storage.SetHooks(hostdbtest.Hooks{})
	if left == nil {
		left = r.storage.Snapshot()
	}
	w.reopen(r, left)
}

// steps are what can happen. Each is one line of a story; abilities that come later get lines of their own.
func (w *world) steps() map[string]func(*rapid.T) {
	var last *replica // touched by the last step
	write := func() { last = w.pick("box"); w.write(last, w.changes(last)) }
	near := func() (a, b *replica, ok bool) {
		a, b = w.pick("from"), w.pick("to")
		return a, b, a != b && a.island == b.island
	}
	send := func() {
		if a, b, ok := near(); ok {
			last = b
			if raws := w.send(a, b); raws != nil {
				w.take(b, raws)
			}
		}
	}
	steps := map[string]func(){
		"write": write, "write more": write, "write still more": write,
		"send": send, "send more": send,
		"meet": func() { // everything that one has
			if a, b, ok := near(); ok {
				last = b
				for origin := range a.store.View().Vector() {
					raws, err := a.store.Operations(origin, b.store.View().Seq(origin), 1<<20)
					if err != nil {
						w.Fatalf("operations of %s: %v", a.name, err)
					}
					w.take(b, raws)
				}
			}
		},
		"post": func() {
			if raws := w.send(w.pick("from"), w.pick("to")); raws != nil {
				w.flying = append(w.flying, raws)
			}
		},
		"arrive": func() {
			if len(w.flying) > 0 {
				last = w.pick("to")
				w.take(last, w.flying[rapid.IntRange(0, len(w.flying)-1).Draw(w.T, "piece")])
			}
		},
		"time": func() { w.tick(time.Duration(rapid.IntRange(0, 2000).Draw(w.T, "ms")) * time.Millisecond) },
		"clock": func() { // forwards or backwards
			w.pick("box").skew = time.Duration(rapid.IntRange(-4000, 4000).Draw(w.T, "skew")) * time.Millisecond
			w.tick(0)
		},
		"cut": func() { w.pick("box").island = rapid.IntRange(0, 2).Draw(w.T, "island") },
		"heal": func() {
			for _, r := range w.nodes {
				r.island = 0
			}
		},
		"restart": func() {
			last = w.pick("box")
			before := answers(last.store.View())
			if err := last.store.Close(); err != nil {
				w.Fatalf("close: %v", err)
			}
			w.reopen(last, last.storage.Snapshot())
			if after := answers(last.store.View()); after != before {
				w.Fatalf("a restart of %s changed\n%s\nto\n%s", last.name, before, after)
			}
		},
		"crash": func() {
			a, b, ok := near()
			last = b
			w.crash(b, func() {
				if !ok {
					w.write(b, w.changes(b))
				} else if raws := w.send(a, b); raws != nil {
					w.take(b, raws)
				}
			})
		},
		"copy": func() {
			r := w.pick("box")
			r.copies = append(r.copies, r.storage.Snapshot())
		},
		"restored": func() { // an old copy of the directory is put back
			if r := w.pick("box"); len(r.copies) > 0 {
				last = r
				w.reopen(r, r.copies[rapid.IntRange(0, len(r.copies)-1).Draw(w.T, "copy")].Snapshot())
			}
		},
		"cloned": func() { // a copy of the directory goes on beside it
			if r := w.pick("box"); len(w.nodes) < 8 {
				last = w.add(r.name, r.storage.Snapshot())
				last.spent = maps.Clone(r.spent)
				if origin := r.store.Origin(); origin != 0 {
					last.spent[origin] = struct{}{}
				}
				w.tick(0)
			}
		},
		"read": func() {
			r := w.pick("box")
			for _, ns := range r.store.View().Namespaces() {
				for key, item := range r.store.View().Items(ns) {
					r.etags[refKey{ns, key}] = item.ETag(hostdb.Data)
				}
			}
		},
		"rollback": func() { last = w.pick("box"); w.write(last, w.rollback(last)) },
		"drop namespace": func() {
			if rapid.IntRange(0, 3).Draw(w.T, "really") == 0 {
				last = w.pick("box")
				w.dropNamespace(last, "extra")
			}
		},
		"again": func() { last = w.pick("box"); w.again(last) },
		"past": func() {
			r := w.pick("box")
			if list := revisionsOf(w, &r.box); len(list) > 0 {
				cut := list[rapid.IntRange(0, len(list)-1).Draw(w.T, "revision")].ID
				if rapid.Bool().Draw(w.T, "before it") {
					cut = cut.Before()
				}
				w.past(r, cut)
			}
		},
	}
	maps.Copy(steps, w.abilities(func(r *replica) { last = r }))
	out := map[string]func(*rapid.T){"": func(*rapid.T) {
		if last != nil {
			w.look(last)
			last = nil
		}
	}}
	for name, step := range steps {
		out[name] = func(t *rapid.T) { w.T = t; step() }
	}
	return out
}

// again gives a replica everything it holds once more: nothing changes, and nothing is written.
func (w *world) again(r *replica) {
	before, applied, commits := answers(r.store.View()), r.store.View().Applied(), r.storage.Commits()
	for origin := range r.store.View().Vector() {
		raws, err := r.store.Operations(origin, 0, 1<<20)
		if err != nil {
			w.Fatalf("operations of %s: %v", r.name, err)
		}
		if n, err := r.store.Apply(context.Background(), raws); n != 0 || err != nil {
			w.Fatalf("%s takes %d operations once more: %v", r.name, n, err)
		}
	}
	if after := answers(r.store.View()); after != before || r.store.View().Applied() != applied || r.storage.Commits() != commits {
		w.Fatalf("operations that %s holds changed it:\n%s\nto\n%s", r.name, before, after)
	}
}

// settle ends a story: everybody gets everything, and must be the same.
func (w *world) settle() {
	w.exchange()
	first := w.nodes[0]
	history := w.histories(first)
	for _, r := range w.nodes {
		if got, want := vectorText(r.store.View()), vectorText(first.store.View()); got != want {
			w.Fatalf("after everything was exchanged %s holds %s, %s holds %s", r.name, got, first.name, want)
		}
		w.look(r)
		if got := w.histories(r); got != history {
			w.Fatalf("histories differ:\n%s\n%s", got, history)
		}
	}
	w.checkDeleted(first)
	w.checkLosers(first)
	w.again(w.nodes[len(w.nodes)-1])
	for _, rev := range revisionsOf(w, &first.box) {
		if rapid.IntRange(0, 4).Draw(w.T, "look at the past") == 0 {
			w.past(w.pick("box"), rev.ID)
		}
	}
	// A replica that was never there before gets it all in one go, and after a restart still has it.
	late := w.add(fmt.Sprintf("late%d", len(w.nodes)), hostdbtest.NewMemory())
	late.skew = time.Minute
	w.tick(0)
	deliverAll(w, &first.box, &late.box)
	w.look(late)
	w.reopen(late, late.storage.Snapshot())
	w.look(late)
	w.retain()
}
