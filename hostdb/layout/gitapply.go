package layout

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// gitTx is one commit on its way into one operation. A write finds what it needs in this order: namespaces; what goes
// and what is renamed; documents; room in member lists; member lists; access lists.
type gitTx struct {
	*gitImport
	tx       *hostdb.Tx
	view     hostdb.View // that the operation goes on
	writes   []*gitWrite
	problems *Problems

	names   map[string]string // keyID -> the key's new name
	gone    map[string]bool   // keyID of what was deleted
	created []string          // keyID of what was not there before, renamed keys included
	set     map[string]bool   // NAMESPACE/KEY of the lists that were set
	changed bool
}

func (g *gitTx) apply() (changed bool, err error) {
	g.names, g.gone, g.set = map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, step := range []func() error{g.namespaces, g.keys, g.documents, g.makeRoom, g.memberLists, g.comeBack, g.accessLists} {
		if err := step(); err != nil {
			return false, err
		}
	}
	return g.changed, nil
}

func (g *gitTx) namespaces() error {
	made := map[string]bool{}
	for _, w := range g.writes {
		brings := w.data.changed && !w.data.gone || w.list.is != nil || w.perms.told && w.perms.is.YAML() != ""
		if !brings || made[w.ns] || g.view.HasNamespace(w.ns) {
			continue
		}
		made[w.ns], g.changed = true, true
		if err := g.tx.CreateNamespace(w.ns); err != nil {
			return fmt.Errorf("namespace %s: %w", w.ns, err)
		}
	}
	return nil
}

// written reports whether a key is in the store; tags/all is not before somebody wrote it.
func (g *gitTx) written(ns, key string) bool {
	item, ok := g.view.Get(ns, key)
	return ok && item != (hostdb.Item{})
}

// keys renames and deletes.
func (g *gitTx) keys() error {
	for _, w := range g.writes {
		if w.from == "" {
			continue
		}
		var err error
		switch {
		case !g.written(w.ns, w.from):
			w.anew()
			continue
		case g.written(w.ns, w.key) || w.ns == hostdb.Tags && (w.from == hostdb.AllTag || w.key == hostdb.AllTag):
			err = g.delete(w.ns, w.from)
			w.anew()
		default:
			err = g.tx.Rename(w.ns, w.from, w.key)
			g.names[keyID(w.ns, w.from)], g.changed = w.key, true
			g.created = append(g.created, keyID(w.ns, w.key))
		}
		if err != nil {
			return fmt.Errorf("%s/%s: %w", w.ns, w.key, err)
		}
	}
	for _, w := range g.writes {
		if w.data.changed && w.data.gone {
			if err := g.delete(w.ns, w.key); err != nil {
				return fmt.Errorf("%s/%s: %w", w.ns, w.key, err)
			}
		}
	}
	return nil
}

func (g *gitTx) delete(ns, key string) error {
	if !g.written(ns, key) || g.gone[keyID(ns, key)] {
		return nil
	}
	g.gone[keyID(ns, key)], g.changed = true, true
	return g.tx.Delete(ns, key)
}

// anew makes a key that comes of one that was renamed.
func (w *gitWrite) anew() {
	w.from, w.data.was, w.list.was = "", hostdb.Document{}, nil
	w.data.unknown, w.list.unknown = false, false
}

// oldName is what the key of a write is called in the view.
func (w *gitWrite) oldName() string {
	if w.from != "" {
		return w.from
	}
	return w.key
}

// there reports whether the key of a write exists now, in the operation.
func (g *gitTx) there(w *gitWrite) bool {
	return g.tx.Exists(w.ns, w.key) && (w.ns != hostdb.Tags || w.key != hostdb.AllTag || g.written(w.ns, w.key) || w.data.changed && !w.data.gone && !w.data.bad)
}

func (g *gitTx) documents() error {
	for _, w := range g.writes {
		if !w.data.changed || w.data.gone || w.data.bad {
			continue
		}
		next := w.data.is
		exists := g.written(w.ns, w.oldName())
		if exists {
			ours := g.view.Data(w.ns, w.oldName())
			if !w.data.unknown {
				next = mergeData(w.data.was, w.data.is, ours)
			}
			if next.Equal(ours) {
				continue
			}
		} else {
			g.created = append(g.created, keyID(w.ns, w.key))
		}
		g.changed = true
		if err := g.tx.Put(w.ns, w.key, next); err != nil {
			return fmt.Errorf("%s/%s: %w", w.ns, w.key, err)
		}
	}
	return nil
}

// canList reports whether the member list of a write can be written, and says why not.
func (g *gitTx) canList(w *gitWrite) bool {
	switch {
	case w.list.bad || w.data.changed && w.data.gone:
		return false
	case w.ns == hostdb.Tags && w.key == hostdb.AllTag:
		if w.list.is != nil && w.list.changed {
			g.problems.warn(place{w.ns, w.key, hostdb.Members}.file(), 0, "ignored: the members of tags/all are all hosts that are not retired")
		}
		return false
	case !g.there(w):
		if w.list.is != nil && w.list.changed && !w.data.bad {
			g.problems.warn(place{w.ns, w.key, hostdb.Members}.file(), 0, "ignored: there is no key %s/%s", w.ns, w.key)
		}
		return false
	}
	// A list is told with a document that was changed, for a key that comes only now.
	return w.list.told && (w.list.changed || w.from != "" || !g.written(w.ns, w.oldName()))
}

// makeRoom removes the @members that lists do not have any more before any is added: the lists of a commit make no cycle
// with each other, but they might with those that they are about to replace.
func (g *gitTx) makeRoom() error {
	for _, w := range g.writes {
		if w.list.was == nil || !w.list.changed || !g.written(w.ns, w.oldName()) || g.gone[keyID(w.ns, w.oldName())] {
			continue
		}
		is := map[string]bool{}
		if w.list.is != nil && !w.list.bad {
			for _, m := range w.list.is.Members {
				is[m.Name] = true
			}
		} else if w.list.bad {
			continue
		}
		for _, m := range w.list.was.Members {
			if strings.HasPrefix(m.Name, "@") && !is[m.Name] && g.view.HasMember(w.ns, w.oldName(), m.Name) && g.there(w) {
				g.changed = true
				if err := g.tx.RemoveMember(w.ns, w.key, m.Name); err != nil {
					return fmt.Errorf("%s/%s/members: %w", w.ns, w.key, err)
				}
			}
		}
	}
	return nil
}

func (g *gitTx) memberLists() error {
	for _, w := range g.writes {
		if !w.list.told {
			continue
		}
		if !g.canList(w) {
			if w.list.is == nil && !w.list.bad || w.data.changed && w.data.gone {
				g.wait(w.ns, w.key, nil, nil, false)
			}
			continue
		}
		var left map[string]bool
		if old := g.lists[w.ns+"/"+w.oldName()]; old != nil {
			left = old.left
		}
		if w.from != "" {
			g.wait(w.ns, w.from, nil, nil, false)
		}
		was := w.list.was
		switch {
		case !g.written(w.ns, w.oldName()):
			was = nil
		case w.list.unknown:
			was = (&Key{Members: g.view.DirectMembers(w.ns, w.oldName())}).withLines()
		}
		if err := g.setList(w.ns, w.key, w.oldName(), was, w.list.is, left); err != nil {
			return err
		}
	}
	return nil
}

// comeBack takes up again the lists that wait for what the commit brought.
func (g *gitTx) comeBack() error {
	again := map[string]bool{}
	for _, id := range g.created {
		maps.Copy(again, g.missing[id])
	}
	for _, w := range g.writes { // what made a cycle may make none any more
		if !w.list.told || !w.list.changed {
			continue
		}
		for id, l := range g.lists {
			if l.ns == w.ns && slices.ContainsFunc(slices.Collect(maps.Keys(l.left)), func(name string) bool {
				return strings.HasPrefix(name, "@") && g.tx.Exists(target(l.ns, name))
			}) {
				again[id] = true
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(again)) {
		l := g.lists[id]
		if g.set[id] || !g.tx.Exists(l.ns, l.key) { // it was set a moment ago, with all that is there
			continue
		}
		if err := g.setList(l.ns, l.key, l.key, l.full, l.full, l.left); err != nil {
			return err
		}
	}
	return nil
}

// setList makes the list of a key what a commit says: what is changed from was to is is changed in the store. left are
// the members of was that were left out.
func (g *gitTx) setList(ns, key, oldName string, was, is *Key, left map[string]bool) error {
	file := place{ns, key, hostdb.Members}.file()
	g.set[ns+"/"+key] = true
	base := g.carried(ns, was.filtered(func(name string) bool { return !left[name] }))
	ours := g.carried(ns, g.view.DirectMembers(ns, oldName))
	out := map[string]bool{}
	theirs := is.filtered(func(name string) bool {
		if g.tx.Exists(target(ns, name)) {
			return true
		}
		if out[name] = true; !left[name] {
			what := "is no host: there is no hosts/" + name
			if inherited, isKey := strings.CutPrefix(name, "@"); isKey {
				what = "names no key: there is no " + ns + "/" + inherited
			}
			g.problems.warn(file, is.line(name), "%s %s; left out until it comes", name, what)
		}
		return false
	})
	next := mergeMembers(base, theirs, ours)
	var err error
	if !slices.Equal(next, ours) {
		g.changed = true
		if err = g.tx.SetMembers(ns, key, next); errors.Is(err, hostdb.ErrCycle) {
			err = g.withoutCycles(ns, key, file, is, left, out, base, ours)
		}
	}
	if err != nil {
		return fmt.Errorf("%s/%s/members: %w", ns, key, err)
	}
	if is != nil && len(out) > 0 {
		g.wait(ns, key, is, out, false)
	} else {
		g.wait(ns, key, nil, nil, false)
	}
	return nil
}

// withoutCycles sets a list without the members that would make a key contain itself.
func (g *gitTx) withoutCycles(ns, key, file string, is *Key, left, out map[string]bool, base, ours []hostdb.Member) error {
	theirs := is.filtered(func(name string) bool {
		if out[name] {
			return false
		}
		err := g.tx.AddMember(ns, key, name)
		if err != nil {
			if out[name] = true; !left[name] {
				g.problems.warn(file, is.line(name), "%s; left out", err)
			}
		}
		return err == nil
	})
	return g.tx.SetMembers(ns, key, mergeMembers(base, theirs, ours))
}

// carried is a list, which it may change, after the renames and deletes of the commit. A member that is deleted takes its
// comment along.
func (g *gitTx) carried(ns string, list []hostdb.Member) []hostdb.Member {
	list = slices.DeleteFunc(list, func(m hostdb.Member) bool { return m.Name != "" && g.gone[memberID(ns, m.Name)] })
	for i, m := range list {
		if to, ok := g.names[memberID(ns, m.Name)]; ok && m.Name != "" {
			if strings.HasPrefix(m.Name, "@") {
				to = "@" + to
			}
			list[i].Name = to
		}
	}
	return list
}

// withLines gives a list of the store the lines that one of a file has.
func (k *Key) withLines() *Key {
	k.lines = make([]int, len(k.Members))
	return k
}

func (g *gitTx) accessLists() error {
	for _, w := range g.writes {
		isDefault := w.key == hostdb.DefaultKey
		if !w.perms.told || w.perms.bad {
			continue
		}
		if !isDefault {
			if !g.there(w) {
				if w.perms.changed && w.perms.is.YAML() != "" && !w.data.bad {
					g.problems.warn(place{w.ns, w.key, hostdb.Perms}.file(), 0, "ignored: there is no key %s/%s", w.ns, w.key)
				}
				continue
			}
			if !w.perms.changed && w.from == "" && g.written(w.ns, w.key) {
				continue
			}
		}
		ours, _ := g.view.Perms(w.ns, w.oldName())
		if ours.YAML() == w.perms.is.YAML() {
			continue
		}
		if isDefault && !g.view.HasNamespace(w.ns) && w.perms.is.YAML() == "" {
			continue
		}
		g.changed = true
		if err := g.tx.SetPerms(w.ns, w.key, w.perms.is); err != nil {
			return fmt.Errorf("%s/%s/perms: %w", w.ns, w.key, err)
		}
	}
	return nil
}
