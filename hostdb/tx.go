package hostdb

import (
	"maps"
	"slices"
	"strings"
)

// Tx collects what one Update writes. Its methods check names, permission, existence and content in that order and
// see what earlier calls of the same Tx wrote. It is used by one goroutine, only inside Update's function.
type Tx struct {
	view     View
	req      Request
	drafts   map[string]*draft
	warnings []string
	would    []Effect // of a dry run
	lifted   bool     // Request.Override was needed
}

// draft is what a key shall become.
type draft struct {
	ns, key string
	base    *entry // before; nil if unknown
	exists  bool
	deleted bool // what base holds goes; exists says whether something new comes
	renamed bool // what base holds lives on under another name
	from    string
	doc     Document
	touched []Path // where doc was written
	members map[string]memberEdit
	perms   *Value
	last    string // at or above every place in the list
}

type memberEdit struct {
	in          bool
	order, text string
}

// View is the state that the writes go on; it does not show them.
func (tx *Tx) View() View { return tx.view }

func (tx *Tx) allow(ns, key string, what Resource) error {
	if tx.req.Allow == nil {
		return nil
	}
	return tx.req.Allow(tx.view, ns, key, what)
}

// draft opens a key for writing.
func (tx *Tx) draft(ns, key string) *draft {
	k := id(ns, key)
	if d := tx.drafts[k]; d != nil {
		return d
	}
	e, _ := tx.view.snap().entries.get(k)
	d := &draft{ns: ns, key: key, base: e, exists: e.exists()}
	if e.exists() {
		d.doc, d.last = Item{e}.Data(), e.maxOrder
	}
	tx.drafts[k] = d
	return d
}

// Exists reports whether a key does, earlier writes of this Tx included.
func (tx *Tx) Exists(ns, key string) bool {
	if d := tx.drafts[id(ns, key)]; d != nil {
		return d.exists
	}
	return tx.view.Exists(ns, key)
}

// begin makes the checks that every write to a key shares.
func (tx *Tx) begin(ns, key string, what Resource) error {
	if err := tx.named(ns, key, what); err != nil {
		return err
	}
	return tx.allow(ns, key, what)
}

// beginData is begin for data that becomes after as a whole.
func (tx *Tx) beginData(ns, key string, after Document) error {
	if tx.req.AllowData == nil {
		return tx.begin(ns, key, Data)
	}
	if err := tx.named(ns, key, Data); err != nil {
		return err
	}
	return tx.req.AllowData(tx.view, ns, key, tx.view.Data(ns, key), after)
}

// at is what a write at a path inside the data needs permission for.
func (tx *Tx) at(path []string) Resource {
	if tx.req.AllowData == nil || len(path) == 0 {
		return Data
	}
	return Section(path[0])
}

// named checks the names of a write, and that its namespace exists.
func (tx *Tx) named(ns, key string, what Resource) error {
	if err := CheckName(ns); err != nil && ns != System {
		return err
	}
	if err := CheckName(key); err != nil && !(key == DefaultKey && what == Perms) {
		return err
	}
	if !tx.view.HasNamespace(ns) {
		if d := tx.drafts[id(ns, "")]; d == nil || !d.exists {
			return refuse(ErrNoNamespace, "there is no namespace %s", ns)
		}
	}
	return nil
}

// existing is begin for a key that must exist.
func (tx *Tx) existing(ns, key string, what Resource) (*draft, error) {
	if err := tx.begin(ns, key, what); err != nil {
		return nil, err
	}
	d := tx.draft(ns, key)
	if !d.exists {
		if ns == Tags && key == AllTag {
			d.exists, d.doc = true, Document{leaves: nullLeaves}
			return d, nil
		}
		return nil, refuse(ErrNoParent, "%s/%s does not exist", ns, key)
	}
	return d, nil
}

// CreateNamespace makes a namespace. Making it again changes nothing.
func (tx *Tx) CreateNamespace(ns string) error {
	if err := CheckName(ns); err != nil {
		return err
	}
	if !tx.view.HasNamespace(ns) {
		tx.draft(ns, "").exists = true
	}
	return nil
}

// Put creates or replaces the data of a key. Fields that doc has like the present data are not written, so a
// concurrent change of other fields survives.
func (tx *Tx) Put(ns, key string, doc Document) error {
	if err := tx.beginData(ns, key, doc); err != nil {
		return err
	}
	d := tx.draft(ns, key)
	d.exists = true
	return d.write("", doc)
}

// write replaces what stands at path. The draft exists.
func (d *draft) write(path Path, doc Document) error {
	if path == "" && !doc.Exists() {
		doc = Document{leaves: nullLeaves}
	}
	next := doc
	if path != "" || doc.cut != 0 {
		var err error
		if next, err = d.doc.With(path, doc); err != nil {
			return err
		}
	}
	d.doc, d.touched = next, append(d.touched, path)
	return nil
}

// Delete removes a key with data, members and perms, and takes it out of every member list: a host in all
// namespaces, another key as @key in its own.
func (tx *Tx) Delete(ns, key string) error {
	if err := tx.beginData(ns, key, Document{}); err != nil {
		return err
	}
	d := tx.draft(ns, key)
	if !d.exists {
		return refuse(ErrNoParent, "%s/%s does not exist", ns, key)
	}
	err := tx.eachHolder(ns, key, func(h *draft, name string, _ memberEdit) error {
		h.takeOut(name)
		return nil
	})
	if err != nil {
		return err
	}
	if d.from != "" { // what is gone is what came here by a rename
		tx.draft(ns, d.from).renamed = false
	}
	d.remove()
	return nil
}

func (d *draft) remove() {
	d.exists, d.deleted, d.from = false, true, ""
	d.doc, d.touched, d.members, d.perms, d.last = Document{}, nil, nil, nil, ""
}

// eachHolder opens every member list that names a key, after permission was given for each of them.
func (tx *Tx) eachHolder(ns, key string, fn func(h *draft, name string, now memberEdit) error) error {
	spaces, name := []string{ns}, "@"+key
	if ns == Hosts {
		spaces, name = tx.view.Namespaces(), key
	}
	var found []*draft
	for _, space := range spaces {
		keys := map[string]bool{}
		for _, k := range tx.view.Holders(space, name) {
			keys[k] = true
		}
		for _, d := range tx.drafts {
			if d.ns == space && d.members[name].in {
				keys[d.key] = true
			}
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if err := tx.allow(space, k, Members); err != nil {
				return err
			}
			if d := tx.draft(space, k); d.exists && d.member(name).in {
				found = append(found, d)
			}
		}
	}
	for _, d := range found {
		if err := fn(d, name, d.member(name)); err != nil {
			return err
		}
	}
	return nil
}

// Rename gives a key another name: data, members and perms go along, and so does its place in every member list.
// Its history stays readable under the new name.
func (tx *Tx) Rename(ns, key, to string) error {
	if err := tx.begin(ns, key, Data); err != nil {
		return err
	}
	if err := CheckName(to); err != nil { // permission at the new name is not asked for: upstream does not either
		return err
	}
	d := tx.draft(ns, key)
	if !d.exists || ns == Tags && key == AllTag {
		return refuse(ErrNoParent, "%s/%s does not exist", ns, key)
	}
	if tx.Exists(ns, to) {
		return refuse(ErrExists, "%s/%s exists already", ns, to)
	}
	newName := to
	if ns != Hosts {
		newName = "@" + to
	}
	err := tx.eachHolder(ns, key, func(h *draft, name string, now memberEdit) error {
		h.edit(name, memberEdit{})
		h.edit(newName, now)
		return nil
	})
	if err != nil {
		return err
	}
	// A key that is renamed twice in one write comes from where it stood before.
	from, lives := key, true
	if d.deleted || d.from != "" { // what it has came in this write: from elsewhere, or from nowhere
		from, lives = d.from, d.renamed
	}
	n := tx.draft(ns, to)
	n.exists, n.from, n.doc, n.touched, n.last = true, from, d.doc, []Path{""}, d.last
	for _, name := range d.memberNames() {
		n.edit(name, d.member(name))
	}
	if v := d.permsNow(); v != nil {
		n.perms = v
	}
	d.remove()
	d.renamed = lives
	return nil
}

func (d *draft) permsNow() *Value {
	if d.perms != nil {
		return d.perms
	}
	if d.base == nil || d.deleted || d.base.perms.value == "" {
		return nil
	}
	v := d.base.perms.value
	return &v
}

// PutPath sets the value at a path inside the data. Its parent must be there. Under a list the last step of the path
// is appended as an item, and doc is ignored.
func (tx *Tx) PutPath(ns, key string, path []string, doc Document) error {
	d, err := tx.existing(ns, key, tx.at(path))
	if err != nil {
		return err
	}
	for _, seg := range path {
		if err := checkSegment(seg); err != nil {
			return err
		}
	}
	if list, ok := d.listAbove(path); ok {
		return d.editList(path, append(list, Text(path[len(path)-1]).document()))
	}
	return d.write(PathOf(path...), doc)
}

// listAbove is the list that the last step of a path would be an item of.
func (d *draft) listAbove(path []string) (items []Document, ok bool) {
	if len(path) == 0 {
		return nil, false
	}
	parent := d.doc.At(path[:len(path)-1]...)
	if v, leaf := parent.Value(); !leaf || !v.IsSequence() {
		return nil, false
	}
	return parent.Items(), true
}

func (d *draft) editList(path []string, items []Document) error {
	b := []byte{'l'}
	for _, item := range items {
		b = appendPart(b, string(item.value()))
	}
	return d.write(PathOf(path[:len(path)-1]...), Value(b).document())
}

// value packs a document into one Value.
func (d Document) value() Value {
	if v, leaf := d.Value(); leaf {
		return v
	}
	b := []byte{'m'}
	for k, sub := range d.Keys() {
		b = appendPart(appendPart(b, k), string(sub.value()))
	}
	return Value(b)
}

// RenamePath gives the last step of a path another name; under a list it changes the items with that text.
func (tx *Tx) RenamePath(ns, key string, path []string, to string) error {
	d, err := tx.existing(ns, key, tx.at(path))
	if err != nil {
		return err
	}
	if len(path) == 1 && tx.req.AllowData != nil {
		if err := tx.allow(ns, key, Section(to)); err != nil {
			return err
		}
	}
	if err := checkSegment(to); err != nil {
		return refuse(ErrExists, "the new name: %s", err)
	}
	last := path[len(path)-1]
	if list, ok := d.listAbove(path); ok {
		changed := false
		for i, item := range list {
			if v, leaf := item.Value(); leaf && v.IsScalar() && v.Scalar() == last {
				list[i], changed = Text(to).document(), true
			}
		}
		if !changed {
			return refuse(ErrNotFound, "the list has no item %s", last)
		}
		return d.editList(path, list)
	}
	if err := d.doc.blocked(PathOf(path...)); err != nil {
		return err
	}
	old := d.doc.At(path...)
	if !old.Exists() {
		return refuse(ErrNotFound, "there is nothing at %s", strings.Join(path, "/"))
	}
	target := append(slices.Clone(path[:len(path)-1]), to)
	if to != last && d.doc.At(target...).Exists() {
		return refuse(ErrExists, "%s exists already", strings.Join(target, "/"))
	}
	without, err := d.doc.Without(PathOf(path...))
	if err != nil {
		return err
	}
	d.doc, d.touched = without, append(d.touched, PathOf(path...))
	return d.write(PathOf(target...), old)
}

// DeletePath removes what stands at a path; under a list, the items with the text of its last step.
func (tx *Tx) DeletePath(ns, key string, path []string) error {
	d, err := tx.existing(ns, key, tx.at(path))
	if err != nil {
		return err
	}
	if list, ok := d.listAbove(path); ok {
		last := path[len(path)-1]
		kept := slices.DeleteFunc(slices.Clone(list), func(item Document) bool {
			v, leaf := item.Value()
			return leaf && v.IsScalar() && v.Scalar() == last
		})
		if len(kept) == len(list) {
			return refuse(ErrNotFound, "the list has no item %s", last)
		}
		return d.editList(path, kept)
	}
	if err := d.doc.blocked(PathOf(path...)); err != nil {
		return err
	}
	next, err := d.doc.Without(PathOf(path...))
	if err != nil {
		return err
	}
	d.doc, d.touched = next, append(d.touched, PathOf(path...))
	return nil
}

// SetPerms sets the access list of a key, or of the namespace at DefaultKey.
func (tx *Tx) SetPerms(ns, key string, acl ACL) error {
	var d *draft
	if key == DefaultKey {
		if err := tx.begin(ns, key, Perms); err != nil {
			return err
		}
		d = tx.draft(ns, key)
	} else {
		var err error
		if d, err = tx.existing(ns, key, Perms); err != nil {
			return err
		}
	}
	v := Null
	if text := acl.YAML(); text != "" {
		v = Text(text)
	}
	d.perms = &v
	return nil
}
