package hostdb

import (
	"fmt"
	"slices"
	"strings"
)

// Restore makes a part of a key what it was in then: Data, Members, Perms, or for "" all of it. A key that then did not
// have is deleted by "", and refused by the parts (ErrNotFound). A key that is gone is made again. Members that are no
// hosts or keys any more are left out, with a warning.
func (tx *Tx) Restore(then View, ns, key string, what Resource) error {
	return tx.restore(then, ns, key, key, what)
}

// RestoreFrom is Restore for a key that had another name then.
func (tx *Tx) RestoreFrom(then View, ns, former, key string, what Resource) error {
	return tx.restore(then, ns, former, key, what)
}

func (tx *Tx) restore(then View, ns, former, key string, what Resource) error {
	item, was := then.Get(ns, former)
	if key == DefaultKey {
		acl, _ := then.Perms(ns, key)
		return tx.SetPerms(ns, key, acl)
	}
	switch {
	case !was && what == "":
		if !tx.Exists(ns, key) {
			return nil
		}
		return tx.Delete(ns, key)
	case !was:
		return refuse(ErrNotFound, "%s/%s did not exist then: there is nothing to go back to", ns, key)
	}
	// All of a key is the parts that differ: no permission is needed for the others.
	untouched := tx.drafts[id(ns, key)] == nil && tx.view.Exists(ns, key)
	if what == Data || !tx.Exists(ns, key) || what == "" && !(untouched && tx.view.Data(ns, key).Equal(item.Data())) {
		if err := tx.Put(ns, key, item.Data()); err != nil {
			return err
		}
	}
	if what == Members || what == "" && !(untouched && tx.view.RawMembers(ns, key) == then.RawMembers(ns, former)) {
		if err := tx.restoreMembers(then, ns, former, key); err != nil {
			return err
		}
	}
	if what == "" || what == Perms {
		acl, _ := then.Perms(ns, former)
		if now, _ := tx.view.Perms(ns, key); what == Perms || now.YAML() != acl.YAML() {
			return tx.SetPerms(ns, key, acl)
		}
	}
	return nil
}

func (tx *Tx) restoreMembers(then View, ns, former, key string) error {
	list := then.DirectMembers(ns, former)
	if ns == Tags && key == AllTag || len(list) == 0 && len(tx.draft(ns, key).memberNames()) == 0 {
		return nil
	}
	kept := make([]Member, 0, len(list))
	for _, m := range list {
		if m.Name != "" && !tx.memberExists(ns, m.Name) {
			tx.warnings = append(tx.warnings, fmt.Sprintf("%s/%s: %s does not exist any more: left out of the members", ns, key, m.Name))
			continue
		}
		kept = append(kept, m)
	}
	return tx.SetMembers(ns, key, kept)
}

func (tx *Tx) memberExists(ns, name string) bool {
	if inherited, is := strings.CutPrefix(name, "@"); is {
		return tx.Exists(ns, inherited)
	}
	return tx.Exists(Hosts, name)
}

// WrittenOver tells what Undo cannot take back. It wraps ErrWrittenOver.
type WrittenOver struct {
	Places []string // ids: ns/key, ns/key/path, ns/key/members/name, ns/key/perms
}

func (e *WrittenOver) Error() string {
	const show = 5
	list := strings.Join(e.Places[:min(show, len(e.Places))], ", ")
	if more := len(e.Places) - show; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return "others have written over it since: " + list
}

// Unwrap is ErrWrittenOver.
func (e *WrittenOver) Unwrap() error { return ErrWrittenOver }

// Undo takes back what one revision did, in all keys it touched, in one operation. before and after are the states around
// it: At(rev.ID.Before()) and At(rev.ID). What was written over since is left as it is, and unless force the whole is
// refused with a *WrittenOver that names it. With force it is overwritten too.
func (tx *Tx) Undo(rev Revision, before, after View, force bool) error {
	u := undo{tx: tx, before: before, after: after, force: force}
	keys := touchedKeys(rev)
	renamed := map[string]bool{} // ids of both names of what the revision renamed
	for _, k := range keys {
		if from := renamedFrom(rev.Effects, k.ns, k.key); from != "" && u.isRename(k.ns, from, k.key) {
			renamed[id(k.ns, k.key)], renamed[id(k.ns, from)] = true, true
			u.follow(k.ns, k.key, from)
		}
	}
	for _, k := range keys {
		if from := renamedFrom(rev.Effects, k.ns, k.key); renamed[id(k.ns, k.key)] && from != "" {
			if err := u.rename(k.ns, k.key, from); err != nil {
				return err
			}
		}
	}
	// What was deleted comes back before the lists that named it, and what was made goes after them.
	for _, pass := range []func(ns, key string) error{u.recreate, u.relist, u.change, u.remove} {
		for _, k := range keys {
			if renamed[id(k.ns, k.key)] {
				continue
			}
			if err := pass(k.ns, k.key); err != nil {
				return err
			}
		}
	}
	for _, m := range u.moved {
		if err := u.parts(m.ns, m.key, m.from); err != nil {
			return err
		}
	}
	if len(u.lost) > 0 && !force {
		slices.Sort(u.lost)
		return &WrittenOver{Places: slices.Compact(u.lost)}
	}
	return nil
}

type keyName struct{ ns, key string }

// touchedKeys are the keys that a revision has effects on, without System's, in order.
func touchedKeys(rev Revision) []keyName {
	var out []keyName
	for i := range rev.Effects {
		x := &rev.Effects[i]
		if k := (keyName{x.NS, x.Key}); x.NS != System && x.Key != "" && !slices.Contains(out[max(0, len(out)-1):], k) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b keyName) int { return strings.Compare(id(a.ns, a.key), id(b.ns, b.key)) })
	return slices.Compact(out)
}

// undo is one Undo under way.
type undo struct {
	tx            *Tx
	before, after View
	force         bool
	lost          []string          // what was written over since
	moved         []movedKey        // keys that have their former names again
	renames       map[string]string // member names that a rename changed: new -> old
}

func (u *undo) written(place string) bool {
	u.lost = append(u.lost, place)
	return u.force
}

// isRename reports whether all that the revision did with two names is that one became the other, whatever it did to the key
// besides. Where a name was taken or given anew as well the keys are undone one by one.
func (u *undo) isRename(ns, from, key string) bool {
	return u.before.Exists(ns, from) && !u.before.Exists(ns, key) && !u.after.Exists(ns, from) && u.after.Exists(ns, key)
}

// rename gives a key its former name back, with all its places in member lists. What the revision changed of it besides is
// taken back when all it may name is there.
func (u *undo) rename(ns, key, from string) error {
	now := u.tx.view
	if !now.Exists(ns, key) {
		if !u.written(ns+"/"+key) || now.Exists(ns, from) {
			return nil
		}
		return u.tx.Restore(u.before, ns, from, "")
	}
	if now.Exists(ns, from) {
		if !u.written(ns + "/" + from) {
			return nil
		}
		if err := u.tx.Delete(ns, from); err != nil {
			return err
		}
	}
	if err := u.tx.Rename(ns, key, from); err != nil {
		return err
	}
	u.moved = append(u.moved, movedKey{ns, key, from})
	return nil
}

// movedKey is a key that has the name from again.
type movedKey struct{ ns, key, from string }

func (u *undo) follow(ns, key, from string) {
	if u.renames == nil {
		u.renames = map[string]string{}
	}
	if ns == Hosts {
		u.renames[key] = from
	} else {
		u.renames["@"+key] = "@" + from
	}
}

// recreate brings back what the revision deleted, but for its members: those may come back themselves.
func (u *undo) recreate(ns, key string) error {
	if !u.deleted(ns, key) || u.tx.view.Exists(ns, key) && !u.written(ns+"/"+key) {
		return nil
	}
	if err := u.tx.Put(ns, key, u.before.Data(ns, key)); err != nil {
		return err
	}
	was, _ := u.before.Perms(ns, key)
	if now, _ := u.tx.view.Perms(ns, key); now.YAML() != was.YAML() {
		return u.tx.SetPerms(ns, key, was)
	}
	return nil
}

// relist gives what recreate brought back its members.
func (u *undo) relist(ns, key string) error {
	if !u.deleted(ns, key) || u.tx.view.Exists(ns, key) && !u.force {
		return nil
	}
	return u.tx.restoreMembers(u.before, ns, key, key)
}

func (u *undo) deleted(ns, key string) bool {
	return u.before.Exists(ns, key) && !u.after.Exists(ns, key)
}

// remove takes away what the revision made.
func (u *undo) remove(ns, key string) error {
	if u.before.Exists(ns, key) || !u.after.Exists(ns, key) || !u.tx.Exists(ns, key) {
		return nil
	}
	now := u.tx.view
	perms, _ := now.Perms(ns, key)
	made, _ := u.after.Perms(ns, key)
	same := now.Data(ns, key).Equal(u.after.Data(ns, key)) && now.RawMembers(ns, key) == u.after.RawMembers(ns, key) && perms.YAML() == made.YAML()
	if !same && !u.written(ns+"/"+key) {
		return nil
	}
	return u.tx.Delete(ns, key)
}

// change takes back what the revision changed of a key that was there before and after.
func (u *undo) change(ns, key string) error {
	if key == DefaultKey {
		return u.perms(ns, key, key)
	}
	if !u.before.Exists(ns, key) || !u.after.Exists(ns, key) {
		return nil
	}
	if !u.tx.view.Exists(ns, key) {
		u.written(ns + "/" + key)
		return nil
	}
	return u.parts(ns, key, key)
}

// parts takes back what the revision changed of a key, which before was called from and is so again in the Tx.
func (u *undo) parts(ns, key, from string) error {
	if err := u.data(ns, key, from); err != nil {
		return err
	}
	if err := u.members(ns, key, from); err != nil {
		return err
	}
	return u.perms(ns, key, from)
}

func leafMap(d Document) map[Path]Value {
	m := make(map[Path]Value, len(d.leaves))
	for p, v := range d.Leaves() {
		m[p] = v
	}
	return m
}

func (u *undo) data(ns, key, from string) error {
	before, after := u.before.Data(ns, from), u.after.Data(ns, key)
	now := u.tx.view.Data(ns, key)
	if before.Equal(after) {
		return nil
	}
	if now.Equal(after) {
		return u.tx.Put(ns, from, before)
	}
	was, is, want := leafMap(before), leafMap(after), leafMap(now)
	changed := false
	revert := func(p Path) {
		old, had := was[p]
		made, has := is[p]
		cur, stands := want[p]
		if had == has && old == made || stands == had && cur == old {
			return // not of this revision, or back already
		}
		if (stands != has || cur != made) && !u.written(ns+"/"+key+"/"+p.String()) {
			return
		}
		if had && !u.makeRoom(ns+"/"+key, p, old, is, want) {
			return
		}
		changed = true
		if delete(want, p); had {
			want[p] = old
		}
	}
	for p := range was {
		revert(p)
	}
	for p := range is {
		if _, both := was[p]; !both {
			revert(p)
		}
	}
	if !changed {
		return nil
	}
	leaves := make([]Leaf, 0, len(want))
	for p, v := range want {
		leaves = append(leaves, Leaf{p, v})
	}
	doc := NewDocument(leaves...)
	if len(leaves) == 0 {
		doc = NewDocument(Leaf{Value: emptyMapping})
	}
	return u.tx.Put(ns, from, doc)
}

// makeRoom removes from want what stands above or below the place p of an old value, and reports whether the value may come
// back there. What the revision itself put there may go; what others put there since is theirs.
func (u *undo) makeRoom(key string, p Path, old Value, is, want map[Path]Value) bool {
	var around []Path
	for q, v := range want {
		if q == p || !q.comparable(p) {
			continue
		}
		if made, has := is[q]; !has || made != v {
			if old == emptyMapping && p.Above(q) {
				return false // there is a mapping: nothing to bring back
			}
			if !u.written(key + "/" + q.String()) {
				return false
			}
		}
		around = append(around, q)
	}
	for _, q := range around {
		delete(want, q)
	}
	return true
}

func (u *undo) members(ns, key, from string) error {
	was, is := memberSet(u.before, ns, from), memberSet(u.after, ns, key)
	now := memberSet(u.tx.view, ns, key)
	if u.before.RawMembers(ns, from) == u.after.RawMembers(ns, key) || ns == Tags && key == AllTag {
		return nil
	}
	if u.tx.view.RawMembers(ns, key) == u.after.RawMembers(ns, key) {
		return u.tx.restoreMembers(u.before, ns, from, from)
	}
	for _, m := range u.after.DirectMembers(ns, key) {
		if m.Name == "" || was[m.Name] || u.renames[m.Name] != "" || !now[m.Name] {
			continue
		}
		if err := u.tx.RemoveMember(ns, from, m.Name); err != nil {
			return err
		}
	}
	for _, m := range u.before.DirectMembers(ns, from) {
		if m.Name == "" || is[m.Name] || now[m.Name] || u.renamedTo(m.Name) {
			continue
		}
		if !u.tx.memberExists(ns, m.Name) {
			u.tx.warnings = append(u.tx.warnings, fmt.Sprintf("%s/%s: %s does not exist any more: left out of the members", ns, key, m.Name))
			continue
		}
		if err := u.tx.AddMember(ns, from, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// renamedTo reports whether a rename that is undone gives back this name, with its places in the lists.
func (u *undo) renamedTo(name string) bool {
	for _, old := range u.renames {
		if old == name {
			return true
		}
	}
	return false
}

func memberSet(v View, ns, key string) map[string]bool {
	set := map[string]bool{}
	for _, m := range v.DirectMembers(ns, key) {
		set[m.Name] = true
	}
	return set
}

func (u *undo) perms(ns, key, from string) error {
	was, _ := u.before.Perms(ns, from)
	is, _ := u.after.Perms(ns, key)
	now, _ := u.tx.view.Perms(ns, key)
	switch {
	case was.YAML() == is.YAML() || now.YAML() == was.YAML():
		return nil
	case now.YAML() != is.YAML() && !u.written(ns+"/"+key+"/perms"):
		return nil
	}
	return u.tx.SetPerms(ns, from, was)
}
