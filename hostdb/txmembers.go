package hostdb

import (
	"maps"
	"slices"
	"strings"
)

// member is a list element as it stands in the draft.
func (d *draft) member(name string) memberEdit {
	if m, ok := d.members[name]; ok {
		return m
	}
	if d.base == nil || d.deleted {
		return memberEdit{}
	}
	r, _ := d.base.members.get(name)
	return memberEdit{r.member, r.order, r.text}
}

func (d *draft) edit(name string, m memberEdit) {
	if d.members == nil {
		d.members = map[string]memberEdit{}
	}
	d.members[name] = m
	if name != "" {
		d.last = max(d.last, m.order)
	}
}

// memberNames are the elements in the list, the nameless one included, by name.
func (d *draft) memberNames() []string {
	names := map[string]bool{}
	if d.base != nil && !d.deleted {
		for name, r := range d.base.members.all() {
			names[name] = r.member
		}
	}
	for name, m := range d.members {
		names[name] = m.in
	}
	maps.DeleteFunc(names, func(_ string, in bool) bool { return !in })
	return slices.Sorted(maps.Keys(names))
}

// takeOut removes an element. The comments and blank lines before it stay, before what follows.
func (d *draft) takeOut(name string) {
	gone := d.member(name)
	d.edit(name, memberEdit{})
	if gone.text == "" {
		return
	}
	next, at := "", ""
	for _, n := range d.memberNames() {
		if m := d.member(n); n != "" && m.order > gone.order && (at == "" || m.order < at) {
			next, at = n, m.order
		}
	}
	m := d.member(next)
	m.in, m.text = true, gone.text+m.text
	d.edit(next, m)
}

// memberTarget refuses what a member list must not name: what does not exist, and what would make a cycle.
func (tx *Tx) memberTarget(ns, key, name string) error {
	if err := checkMember(name); err != nil {
		return err
	}
	inherited, isKey := strings.CutPrefix(name, "@")
	if !isKey {
		if !tx.Exists(Hosts, name) {
			return refuse(ErrNotFound, "%s is no host: hosts/%s does not exist", name, name)
		}
		return nil
	}
	if !tx.Exists(ns, inherited) {
		return refuse(ErrNotFound, "%s names no key: %s/%s does not exist", name, ns, inherited)
	}
	if tx.leadsTo(ns, inherited, key, map[string]bool{}) {
		return refuse(ErrCycle, "%s would make a cycle: %s/%s is reached from %s/%s", name, ns, key, ns, inherited)
	}
	return nil
}

// leadsTo reports whether from inherits, at any depth, from key.
func (tx *Tx) leadsTo(ns, from, key string, seen map[string]bool) bool {
	if from == key {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	d := tx.drafts[id(ns, from)]
	if d == nil || !d.deleted {
		e, _ := tx.view.snap().entries.get(id(ns, from))
		if e.exists() {
			for name, r := range e.members.from("@") { // inherited keys sort together
				if name[0] != '@' {
					break
				}
				if d != nil {
					if m, ok := d.members[name]; ok && !m.in {
						continue
					}
				}
				if r.member && tx.leadsTo(ns, name[1:], key, seen) {
					return true
				}
			}
		}
	}
	if d != nil {
		for name, m := range d.members {
			if m.in && strings.HasPrefix(name, "@") && tx.leadsTo(ns, name[1:], key, seen) {
				return true
			}
		}
	}
	return false
}

// list opens a member list for writing.
func (tx *Tx) list(ns, key string) (*draft, error) {
	d, err := tx.existing(ns, key, Members)
	if err != nil {
		return nil, err
	}
	if ns == Tags && key == AllTag {
		return nil, refuse(ErrNotAllowed, "the members of tags/all are all hosts that are not retired; they cannot be written")
	}
	return d, nil
}

// SetMembers makes a key's list what is given, all or nothing. Members that keep their place are not written, so a
// concurrent addition elsewhere survives.
func (tx *Tx) SetMembers(ns, key string, list []Member) error {
	d, err := tx.list(ns, key)
	if err != nil {
		return err
	}
	if len(list) > MaxMembers+1 {
		return refuse(ErrTooLarge, "%s/%s would have more than %d members", ns, key, MaxMembers)
	}
	// First what goes, so that the new list is not held against the old one.
	in := make(map[string]bool, len(list))
	for _, m := range list {
		in[m.Name] = true
	}
	for _, name := range d.memberNames() {
		if !in[name] {
			d.edit(name, memberEdit{})
		}
	}
	places := make([]string, 0, len(list))
	for _, m := range list {
		now := d.member(m.Name)
		if m.Name == "" || !now.in {
			places = append(places, "")
		} else {
			places = append(places, now.order)
		}
	}
	keep := keepInPlace(places)
	next := make([]string, len(list)) // the place of the next member that stays, "" for none
	for i, hi := len(list)-1, ""; i >= 0; i-- {
		next[i] = hi
		if keep[i] {
			hi = places[i]
		}
	}
	lo, moveAll := "", false
	for i, m := range list {
		if m.Name == "" {
			if d.member("").text != m.Text {
				d.edit("", memberEdit{in: true, text: m.Text})
			}
			continue
		}
		if d.member(m.Name) == (memberEdit{}) {
			if err := tx.memberTarget(ns, key, m.Name); err != nil {
				return err
			}
		}
		if !keep[i] || moveAll {
			place, ok := orderBetween(lo, next[i])
			if !ok || moveAll { // no room: everything behind moves
				place, moveAll = orderAfter(max(lo, d.last)), true
			}
			places[i] = place
		}
		lo = places[i]
		if want := (memberEdit{true, places[i], m.Text}); d.member(m.Name) != want {
			d.edit(m.Name, want)
		}
	}
	return nil
}

// AddMember adds a host or @key at the end of a list; adding what is there changes nothing.
func (tx *Tx) AddMember(ns, key, name string) error {
	d, err := tx.list(ns, key)
	if err != nil {
		return err
	}
	if err := tx.memberTarget(ns, key, name); err != nil {
		return err
	}
	if d.member(name).in {
		return nil
	}
	if d.base != nil && d.base.memberCount+len(d.members) >= MaxMembers {
		return refuse(ErrTooLarge, "%s/%s has %d members already", ns, key, MaxMembers)
	}
	d.edit(name, memberEdit{in: true, order: orderAfter(d.last)})
	return nil
}

// RemoveMember takes a host or @key out of a list; removing what is not there changes nothing.
func (tx *Tx) RemoveMember(ns, key, name string) error {
	d, err := tx.list(ns, key)
	if err != nil {
		return err
	}
	if err := checkMember(name); err != nil {
		return err
	}
	if d.member(name).in {
		d.takeOut(name)
	}
	return nil
}

// RenameMember puts another host or @key into the place of a member.
func (tx *Tx) RenameMember(ns, key, name, to string) error {
	d, err := tx.list(ns, key)
	if err != nil {
		return err
	}
	now := d.member(name)
	if !now.in || name == "" {
		return refuse(ErrNotFound, "%s is no direct member of %s/%s", name, ns, key)
	}
	if to != name && d.member(to).in {
		return refuse(ErrExists, "%s is a member of %s/%s already", to, ns, key)
	}
	d.edit(name, memberEdit{})
	if err := tx.memberTarget(ns, key, to); err != nil {
		return err
	}
	d.edit(to, now)
	return nil
}
