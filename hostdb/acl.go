package hostdb

import "strings"

// Resource is a part of a key that an access list speaks of.
type Resource string

// The resources of a key. Data/Section names one section of a document.
const (
	Data    Resource = "data"
	Members Resource = "members"
	Perms   Resource = "perms"
)

// Section is the resource of one top-level mapping key of a document.
func Section(name string) Resource { return Data + "/" + Resource(name) }

// ACL is an access list: user or group -> resource -> RO or RW.
type ACL struct{ doc Document }

// ParseACL reads an access list. It must be a mapping of names to mappings of data, members, perms or data/SECTION
// to RO or RW; an empty text is an empty list.
func ParseACL(text []byte) (ACL, error) {
	d, err := ParseDocument(text)
	if err != nil {
		return ACL{}, err
	}
	if d.IsNull() {
		return ACL{}, nil
	}
	if !d.IsMapping() {
		return ACL{}, refuse(ErrInvalid, "an access list must be a mapping of names, for example {ops: {data: RW, members: RW}}")
	}
	for who, rules := range d.Keys() {
		if !rules.IsMapping() {
			return ACL{}, refuse(ErrInvalid, "access list: %s must be a mapping of data, members or perms to RO or RW", who)
		}
		for what, grant := range rules.Keys() {
			if what != "data" && what != "members" && what != "perms" && !strings.HasPrefix(what, "data/") {
				return ACL{}, refuse(ErrInvalid, "access list: %s/%s: expected data, members, perms or data/SECTION", who, what)
			}
			if v, _ := grant.Value(); v.Scalar() != "RO" && v.Scalar() != "RW" {
				return ACL{}, refuse(ErrInvalid, "access list: %s/%s must be RO or RW", who, what)
			}
		}
	}
	return ACL{doc: d}, nil
}

// YAML is the list in canonical form; "" when it is empty.
func (a ACL) YAML() string {
	if !a.doc.Exists() {
		return ""
	}
	return a.doc.YAML()
}

// grant is what the list says for who: "RW", "RO" or "".
func (a ACL) grant(who string, what Resource) string {
	if g := a.doc.Text(who, string(what)); g != "" {
		return g
	}
	if data, _, section := strings.Cut(string(what), "/"); section {
		return a.doc.Text(who, data)
	}
	return ""
}

// Decision is an answer of Permits with the rule that gave it.
type Decision struct {
	Allowed bool
	Rule    string // for people: which entry of which list decided
}

// Permits decides whether user, member of groups, may write a resource of ns/key (which need not exist). The first
// match decides: the user's entry at the key; RW of one of the groups there; RO of one of them; then the same at the
// namespace's .default; else no.
func (v View) Permits(ns, key string, what Resource, user string, groups []string) Decision {
	for _, place := range []string{key, DefaultKey} {
		acl, ok := v.Perms(ns, place)
		if !ok {
			continue
		}
		id := ns + "/" + place + "/perms"
		if g := acl.grant(user, what); g != "" {
			return Decision{g == "RW", id + " gives " + user + " " + g + " on " + string(what)}
		}
		for _, want := range []string{"RW", "RO"} {
			for _, group := range groups {
				if acl.grant(group, what) == want {
					return Decision{want == "RW", id + " gives group " + group + " " + want + " on " + string(what)}
				}
			}
		}
	}
	return Decision{false, "no entry for " + user + " or its groups in " + ns + "/" + key + "/perms or " + ns + "/" + DefaultKey + "/perms"}
}
