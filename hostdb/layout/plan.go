package layout

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// Bounds of one operation: a peer takes an operation as a whole, and writers wait for each other. A single larger
// document or list is an operation of its own.
const (
	maxBatchBytes  = 256 << 10
	maxBatchWrites = 256
)

// step is one write of an import.
type step struct {
	ns, key string
	what    hostdb.Resource // "" makes the namespace
	doc     hostdb.Document // that data becomes
	size    int             // of its effects, about
	fresh   func(hostdb.View) bool
	write   func(*hostdb.Tx) error
}

// id is the step as people name what it writes.
func (s step) id() string {
	switch s.what {
	case "":
		return s.ns
	case hostdb.Data:
		return s.ns + "/" + s.key
	}
	return s.ns + "/" + s.key + "/" + string(s.what)
}

// plan is what an import has to write, in an order in which each write finds what it needs: namespaces; documents,
// those of hosts first; what makes room in member lists; member lists; access lists, those of namespaces last, so
// that none of them takes from the importer what he still has to write.
type plan struct {
	steps  []step
	report Report
}

// makePlan compares the directory with what the Store holds. It drops what is equal.
func makePlan(inv *Inventory, view hostdb.View) *plan {
	p := &plan{}
	p.report.Problems = inv.Problems
	for _, ns := range inv.Namespaces {
		p.namespace(ns, view)
	}
	for _, ns := range inv.Namespaces {
		for _, k := range ns.Keys {
			p.data(ns.Name, k, view)
		}
	}
	for _, ns := range inv.Namespaces {
		for _, k := range ns.Keys {
			p.makeRoom(ns.Name, k, view)
		}
	}
	for _, ns := range inv.Namespaces {
		for _, k := range ns.Keys {
			p.members(ns.Name, k, view)
		}
	}
	for _, ns := range inv.Namespaces {
		for _, k := range ns.Keys {
			p.perms(ns.Name, k.Name, k.Perms, view)
		}
	}
	for _, ns := range inv.Namespaces {
		p.perms(ns.Name, hostdb.DefaultKey, ns.Default, view)
	}
	return p
}

func (p *plan) namespace(ns Namespace, view hostdb.View) {
	if !view.HasNamespace(ns.Name) {
		p.steps = append(p.steps, step{
			ns: ns.Name, size: 64 + len(ns.Name),
			fresh: func(v hostdb.View) bool { return !v.HasNamespace(ns.Name) },
			write: func(tx *hostdb.Tx) error { return tx.CreateNamespace(ns.Name) },
		})
		return
	}
	for key := range view.Keys(ns.Name) {
		item, _ := view.Get(ns.Name, key)
		if ns.key(key) == nil && item != (hostdb.Item{}) {
			p.report.LeftAlone++
		}
	}
}

func (p *plan) data(ns string, k Key, view hostdb.View) {
	// tags/all exists for readers before anybody wrote it.
	there := func(v hostdb.View) bool { item, _ := v.Get(ns, k.Name); return item != (hostdb.Item{}) }
	if there(view) && view.Data(ns, k.Name).Equal(k.Data) {
		p.report.Keys.Unchanged++
		return
	}
	size := 64 + len(ns) + len(k.Name)
	for path, value := range k.Data.Leaves() {
		size += len(ns) + len(k.Name) + len(path) + len(value) + 24
	}
	p.steps = append(p.steps, step{
		ns: ns, key: k.Name, what: hostdb.Data, doc: k.Data, size: size,
		fresh: func(v hostdb.View) bool { return !there(v) },
		write: func(tx *hostdb.Tx) error { return tx.Put(ns, k.Name, k.Data) },
	})
}

// makeRoom removes the @members that the directory does not have any more before any is added: the lists of the
// directory make no cycle with each other, but they might with lists that they are about to replace.
func (p *plan) makeRoom(ns string, k Key, view hostdb.View) {
	if !k.HasMembers {
		return
	}
	var gone []string
	for _, m := range view.DirectMembers(ns, k.Name) {
		if strings.HasPrefix(m.Name, "@") {
			gone = append(gone, m.Name)
		}
	}
	if len(gone) == 0 {
		return
	}
	keep := make(map[string]bool, len(k.Members))
	for _, m := range k.Members {
		keep[m.Name] = true
	}
	for _, name := range gone {
		if keep[name] {
			continue
		}
		p.steps = append(p.steps, step{
			ns: ns, key: k.Name, what: hostdb.Members, size: 128,
			write: func(tx *hostdb.Tx) error { return tx.RemoveMember(ns, k.Name, name) },
		})
	}
}

func (p *plan) members(ns string, k Key, view hostdb.View) {
	if !k.HasMembers {
		return
	}
	if slices.Equal(view.DirectMembers(ns, k.Name), k.Members) {
		p.report.Members.Unchanged++
		return
	}
	size := 64
	for _, m := range k.Members {
		size += len(ns) + len(k.Name) + len(m.Name) + len(m.Text) + 40
	}
	p.steps = append(p.steps, step{
		ns: ns, key: k.Name, what: hostdb.Members, size: size,
		fresh: func(v hostdb.View) bool { return v.MemberCount(ns, k.Name) == 0 },
		write: func(tx *hostdb.Tx) error { return tx.SetMembers(ns, k.Name, k.Members) },
	})
}

func (p *plan) perms(ns, key string, acl *hostdb.ACL, view hostdb.View) {
	if acl == nil {
		return
	}
	old, there := view.Perms(ns, key)
	if old.YAML() == acl.YAML() {
		p.report.Perms.Unchanged++
		return
	}
	p.steps = append(p.steps, step{
		ns: ns, key: key, what: hostdb.Perms, size: 64 + len(acl.YAML()),
		fresh: func(hostdb.View) bool { return !there },
		write: func(tx *hostdb.Tx) error { return tx.SetPerms(ns, key, *acl) },
	})
}

// allow asks for permission for everything before anything is written.
func (p *plan) allow(who hostdb.Request, view hostdb.View) error {
	if who.Allow == nil {
		return nil
	}
	for _, s := range p.steps {
		key, what := s.key, s.what
		if what == "" { // a namespace comes with the right to say who may write there
			key, what = hostdb.DefaultKey, hostdb.Perms
		}
		var err error
		if what == hostdb.Data && who.AllowData != nil {
			err = who.AllowData(view, s.ns, key, view.Data(s.ns, key), s.doc)
		} else {
			err = who.Allow(view, s.ns, key, what)
		}
		if err != nil {
			return fmt.Errorf("import %s: %w; nothing was imported", s.id(), err)
		}
	}
	return nil
}

// batches cuts the steps into operations.
func (p *plan) batches() [][]step {
	var out [][]step
	from, size := 0, 0
	for i, s := range p.steps {
		if i > from && (size+s.size > maxBatchBytes || i-from == maxBatchWrites) {
			out = append(out, p.steps[from:i])
			from, size = i, 0
		}
		size += s.size
	}
	if from < len(p.steps) {
		out = append(out, p.steps[from:])
	}
	return out
}
