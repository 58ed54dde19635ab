package rest

import (
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// foreach is a mapping of each entry of a list to what the id gives when its second part is that entry; null where it
// gives nothing. An id of members gives each list joined by blanks.
func (c *call) foreach(list string) (answer, error) {
	t := c.target
	switch t.kind {
	case kindRoot:
		return answer{}, fail(codeInvalid, "foreach needs an id that begins with a namespace")
	case kindNamespace:
		t.kind = kindKey
	}
	entries, err := c.entries(list)
	if err != nil {
		return answer{}, err
	}
	if !c.view.HasNamespace(t.ns) {
		return answer{}, fail(codeNotFound, "Resource "+t.ns+" does not exist")
	}
	var m mapping
	made, _ := c.view.Get(t.ns, t.key)
	for _, key := range entries {
		t.key = key
		m.set(key, c.valueOf(&t))
	}
	return answer{text: m.yaml(), format: asYAML, mtime: made.Modified()}, nil
}

// entries are the keys of a namespace, or the hosts of a member list.
func (c *call) entries(list string) ([]string, error) {
	t, err := parseID(list, verbatim)
	if err != nil {
		return nil, err
	}
	switch t.kind {
	case kindNamespace:
		if c.view.HasNamespace(t.ns) {
			return slices.Collect(c.view.Keys(t.ns)), nil
		}
	case kindMembers:
		if c.view.Exists(t.ns, t.key) {
			return c.view.Members(t.ns, t.key), nil
		}
	default:
		return nil, fail(codeInvalid, "foreach="+list+" is no list: expected a namespace or namespace/key/members")
	}
	return nil, notThere(&t)
}

// valueOf is what stands at t; not there when nothing does.
func (c *call) valueOf(t *target) hostdb.Document {
	item, ok := c.view.Get(t.ns, t.key)
	if !ok {
		return hostdb.Document{}
	}
	switch t.kind {
	case kindMembers:
		return textDocument(strings.Join(c.view.Members(t.ns, t.key), " "))
	case kindMember:
		if !hasMember(c.view, t) {
			return hostdb.Document{}
		}
		return textDocument(t.member)
	case kindPerms:
		acl, ok := c.view.Perms(t.ns, t.key)
		if !ok {
			return hostdb.Document{}
		}
		doc, err := hostdb.ParseDocument([]byte(acl.YAML()))
		if err != nil { // it was parsed when it was written
			return hostdb.Document{}
		}
		return doc
	case kindPath:
		return item.Data().At(t.path...)
	}
	return item.Data()
}

func textDocument(text string) hostdb.Document {
	return hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(text)})
}
