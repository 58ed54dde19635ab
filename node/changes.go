package node

import (
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// maxShown bounds the bytes of texts in one answer about history.
const maxShown = 8 << 20

// changesOf makes the effects of one operation readable, at most limit changes; omitted counts the others. before is the
// state it found: with it, old and new values are told. Without it they are left out, and so is what follows from a
// creation or a rename. What belongs to System is never shown.
func changesOf(effects []hostdb.Effect, before *hostdb.View, limit int) (list []api.RevisionChange, omitted int) {
	moved := map[string]bool{} // keys that a rename took away
	for i := range effects {
		if x := &effects[i]; x.Kind == hostdb.CreateKey && x.From != "" {
			moved[x.NS+"/"+x.From] = true
		}
	}
	shown := 0
	for len(effects) > 0 {
		first, n := &effects[0], 1
		for n < len(effects) && effects[n].NS == first.NS && effects[n].Key == first.Key {
			n++
		}
		group := effects[:n]
		effects = effects[n:]
		if first.NS == hostdb.System {
			continue
		}
		k := keyChange{ns: first.NS, key: first.Key, before: before}
		for _, c := range k.changes(group, moved[first.NS+"/"+first.Key]) {
			if c.Old != nil {
				shown += len(*c.Old)
			}
			if c.New != nil {
				shown += len(*c.New)
			}
			if len(list) >= limit || shown > maxShown {
				omitted++
				continue
			}
			list = append(list, c)
		}
	}
	return list, omitted
}

// keyChange reads the effects on one key.
type keyChange struct {
	ns, key string
	before  *hostdb.View
	out     []api.RevisionChange
}

func (k *keyChange) id() string {
	if k.key == "" {
		return k.ns
	}
	return k.ns + "/" + k.key
}

func (k *keyChange) add(kind string, what hostdb.Resource, path string, old, new *string) {
	k.out = append(k.out, api.RevisionChange{ID: k.id(), What: string(what), Path: path, Kind: kind, Old: old, New: new})
}

// changes are those of the effects on the key; moved says that it went away by a rename.
func (k *keyChange) changes(group []hostdb.Effect, moved bool) []api.RevisionChange {
	old := k.key // the name under which before has what the effects go on; "" for nothing
	for i := range group {
		if group[i].Kind == hostdb.DeleteKey {
			if !moved {
				k.deleted()
			}
			old = ""
		}
	}
	at := slices.IndexFunc(group, func(x hostdb.Effect) bool { return x.Kind == hostdb.CreateKey })
	var was hostdb.Document
	switch {
	case at < 0:
		if k.before != nil && old != "" {
			was = k.before.Data(k.ns, old)
		}
		k.leaves(group, was)
	case group[at].From != "":
		from := group[at].From
		k.out = append(k.out, api.RevisionChange{ID: k.id(), Kind: api.ChangeRename, From: k.ns + "/" + from})
		if k.before == nil {
			return k.out // what the key had went along
		}
		if is := written(group); !is.Equal(k.before.Data(k.ns, from)) {
			k.replaced(k.before.Data(k.ns, from), is)
		}
		old = from
	default:
		k.add(api.ChangeCreate, "", "", nil, nil)
		if k.key == "" {
			return k.out
		}
		if k.before != nil {
			k.out[len(k.out)-1].New = docText(written(group))
		}
		old = ""
	}
	k.members(group, old, at >= 0)
	k.perms(group, old)
	return k.out
}

// written is the document that the effects make of nothing.
func written(group []hostdb.Effect) hostdb.Document {
	var leaves []hostdb.Leaf
	for i := range group {
		if x := &group[i]; x.Kind == hostdb.SetLeaf {
			leaves = append(leaves, hostdb.Leaf{Path: hostdb.PathOf(x.Path...), Value: x.Value})
		}
	}
	if len(leaves) == 0 {
		leaves = []hostdb.Leaf{{Value: hostdb.Null}}
	}
	return hostdb.NewDocument(leaves...)
}

// docText is a document for people, without the final newline; nil when there is none.
func docText(d hostdb.Document) *string {
	if !d.Exists() {
		return nil
	}
	s := strings.TrimSuffix(d.YAML(), "\n")
	return &s
}

func (k *keyChange) deleted() {
	k.add(api.ChangeDelete, "", "", nil, nil)
	if k.before == nil {
		return
	}
	k.out[len(k.out)-1].Old = docText(k.before.Data(k.ns, k.key))
	if raw := k.before.RawMembers(k.ns, k.key); raw != "" {
		k.add(api.ChangeRemove, hostdb.Members, "", &raw, nil)
	}
	if acl, ok := k.before.Perms(k.ns, k.key); ok {
		raw := strings.TrimSuffix(acl.YAML(), "\n")
		k.add(api.ChangeRemove, hostdb.Perms, "", &raw, nil)
	}
}

// leaves tells of values that were written one by one.
func (k *keyChange) leaves(group []hostdb.Effect, was hostdb.Document) {
	for i := range group {
		x := &group[i]
		if x.Kind != hostdb.SetLeaf && x.Kind != hostdb.UnsetLeaf {
			continue
		}
		var old *string
		if sub := was.At(x.Path...); sub.Exists() {
			if _, leaf := sub.Value(); leaf && k.before != nil {
				old = docText(sub)
			}
		}
		path := strings.Join(x.Path, "/")
		switch {
		case x.Kind == hostdb.SetLeaf && k.before != nil:
			k.add(api.ChangeSet, hostdb.Data, path, old, docText(hostdb.NewDocument(hostdb.Leaf{Value: x.Value})))
		case x.Kind == hostdb.SetLeaf:
			k.add(api.ChangeSet, hostdb.Data, path, nil, nil)
		case k.before == nil || old != nil: // else it cleared what another value hid
			k.add(api.ChangeRemove, hostdb.Data, path, old, nil)
		}
	}
}

// replaced tells how one document became another.
func (k *keyChange) replaced(was, is hostdb.Document) {
	for p, v := range was.Leaves() {
		if !is.At(p.Segments()...).Exists() {
			k.add(api.ChangeRemove, hostdb.Data, p.String(), docText(hostdb.NewDocument(hostdb.Leaf{Value: v})), nil)
		}
	}
	for p, v := range is.Leaves() {
		sub := was.At(p.Segments()...)
		old, had := sub.Value()
		switch {
		case had && old == v:
		case had:
			k.add(api.ChangeSet, hostdb.Data, p.String(), docText(sub), docText(hostdb.NewDocument(hostdb.Leaf{Value: v})))
		default:
			k.add(api.ChangeSet, hostdb.Data, p.String(), nil, docText(hostdb.NewDocument(hostdb.Leaf{Value: v})))
		}
	}
}

// members tells of members; fresh says that the list began as a copy of the one that old has.
func (k *keyChange) members(group []hostdb.Effect, old string, fresh bool) {
	if !slices.ContainsFunc(group, func(x hostdb.Effect) bool { return x.Kind == hostdb.PutMember || x.Kind == hostdb.RemoveMember }) {
		return
	}
	was := map[string]*string{}
	if k.before != nil && old != "" {
		for _, m := range k.before.DirectMembers(k.ns, old) {
			line := hostdb.FormatMembers([]hostdb.Member{m})
			was[m.Name] = &line
		}
	}
	for i := range group {
		switch x := &group[i]; {
		case x.Kind == hostdb.RemoveMember:
			k.add(api.ChangeRemove, hostdb.Members, x.Member, was[x.Member], nil)
		case x.Kind == hostdb.PutMember && k.before == nil:
			k.add(api.ChangeSet, hostdb.Members, x.Member, nil, nil)
		case x.Kind == hostdb.PutMember:
			line := hostdb.FormatMembers([]hostdb.Member{{Name: x.Member, Text: x.Text}})
			if stood := was[x.Member]; !fresh || stood == nil || *stood != line {
				k.add(api.ChangeSet, hostdb.Members, x.Member, stood, &line)
			}
		}
	}
}

func (k *keyChange) perms(group []hostdb.Effect, old string) {
	for i := range group {
		x := &group[i]
		if x.Kind != hostdb.SetPerms {
			continue
		}
		var was, is *string
		if k.before != nil && old != "" {
			if acl, ok := k.before.Perms(k.ns, old); ok {
				t := strings.TrimSuffix(acl.YAML(), "\n")
				was = &t
			}
		}
		kind := api.ChangeRemove
		if !x.Value.IsNull() {
			kind = api.ChangeSet
			if k.before != nil {
				t := strings.TrimSuffix(x.Value.Scalar(), "\n")
				is = &t
			}
		}
		if was == nil || is == nil || *was != *is {
			k.add(kind, hostdb.Perms, "", was, is)
		}
	}
}
