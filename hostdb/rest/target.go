package rest

import (
	"net/url"
	"strings"

	"hostmesh/hostdb"
)

// kind is what an id names.
type kind uint8

const (
	kindRoot      kind = iota // the list of namespaces
	kindNamespace             // the list of keys
	kindKey                   // the data of a key
	kindPath                  // a value inside the data
	kindMembers               // a member list
	kindMember                // a direct member
	kindPerms                 // an access list
	kindSession               // auth/session: not an id
	kindCanModify             // auth/can_modify: not an id
	kindNone                  // nothing could be made of it
	kinds
)

func (k kind) String() string {
	return [kinds]string{"root", "namespace", "key", "path", "members", "member", "perms", "session", "can_modify", "none"}[k]
}

// target is what a request is about: namespace[/key[/members[/host] | /perms | /path/in/data...]].
type target struct {
	kind    kind
	ns, key string
	member  string   // kindMember: a host or @key
	path    []string // kindPath
	token   string   // kindSession: "" for none
}

// resource is what an access list calls the target.
func (t *target) resource() hostdb.Resource {
	switch t.kind {
	case kindMembers, kindMember:
		return hostdb.Members
	case kindPerms:
		return hostdb.Perms
	case kindPath:
		return hostdb.Section(t.path[0])
	}
	return hostdb.Data
}

func (t *target) String() string {
	switch t.kind {
	case kindNamespace:
		return t.ns
	case kindKey:
		return t.ns + "/" + t.key
	case kindPath:
		return t.ns + "/" + t.key + "/" + strings.Join(t.path, "/")
	case kindMembers, kindPerms:
		return t.ns + "/" + t.key + "/" + t.kind.String()
	case kindMember:
		return t.ns + "/" + t.key + "/members/" + t.member
	}
	return ""
}

// parseURLPath reads the escaped path of a request: /v<digits>/id, or one of the auth calls.
func parseURLPath(escaped string) (target, error) {
	p := strings.TrimLeft(escaped, "/")
	if len(p) < 2 || p[0] != 'v' || !isDigit(p[1]) {
		return target{kind: kindNone}, fail(codeNotFound, "Not a path of HostDB: it begins with /v1/")
	}
	i := 1
	for i < len(p) && isDigit(p[i]) {
		i++
	}
	if i < len(p) && p[i] != '/' {
		return target{kind: kindNone}, fail(codeNotFound, "Not a path of HostDB: it begins with /v1/")
	}
	id := strings.Trim(p[i:], "/")
	if call, ok := strings.CutPrefix(id, "auth/"); ok {
		switch call, rest, _ := strings.Cut(call, "/"); call {
		case "session":
			token, err := url.PathUnescape(strings.TrimLeft(rest, "/"))
			if err != nil {
				token = rest
			}
			return target{kind: kindSession, token: token}, nil
		case "can_modify":
			return target{kind: kindCanModify}, nil
		}
	}
	return parseID(id, url.PathUnescape)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// parseID reads an id. Slashes around it are ignored; an empty part inside is a bad name, so that a script with an empty
// variable does not reach another thing than it meant. Each part is decoded once, after the id was split: an escaped
// slash belongs to the name it stands in.
func parseID(id string, decode func(string) (string, error)) (target, error) {
	id = strings.Trim(id, "/")
	if id == "" {
		return target{kind: kindRoot}, nil
	}
	// The first four parts are enough to know the kind; a plain key costs no slice.
	var t target
	part, rest, more := strings.Cut(id, "/")
	var err error
	if t.ns, err = decodeName(part, decode); err != nil {
		return target{kind: kindNone}, err
	}
	if !more {
		t.kind = kindNamespace
		return t, nil
	}
	part, rest, more = strings.Cut(rest, "/")
	if t.key, err = decode(part); err != nil {
		return target{kind: kindNone}, fail(codeBadName, "Bad escape in the id")
	}
	if t.key == hostdb.DefaultKey && rest == "perms" {
		t.kind = kindPerms
		return t, nil
	}
	if err := hostdb.CheckName(t.key); err != nil {
		return target{kind: kindNone}, fail(codeBadName, err.Error())
	}
	if !more {
		t.kind = kindKey
		return t, nil
	}
	return parseBelow(t, rest, decode)
}

// parseBelow reads what follows the key.
func parseBelow(t target, rest string, decode func(string) (string, error)) (target, error) {
	bad := target{kind: kindNone}
	parts := strings.Split(rest, "/")
	for i, p := range parts {
		var err error
		if parts[i], err = decode(p); err != nil {
			return bad, fail(codeBadName, "Bad escape in the id")
		}
		if parts[i] == "" {
			return bad, fail(codeBadName, "An empty part in the id: two slashes follow each other")
		}
	}
	switch parts[0] {
	case "members":
		if len(parts) == 1 {
			t.kind = kindMembers
			return t, nil
		}
		t.kind, t.member = kindMember, strings.TrimRight(strings.Join(parts[1:], "/"), " \t\r\n")
		if err := hostdb.CheckName(strings.TrimPrefix(t.member, "@")); err != nil {
			return bad, fail(codeBadName, err.Error())
		}
		return t, nil
	case "perms":
		t.kind = kindPerms
		if len(parts) > 1 {
			return bad, fail(codeNotFound, "Permissions are read and written as a whole: "+t.String())
		}
		return t, nil
	}
	for _, p := range parts {
		if strings.ContainsRune(p, 0) {
			return bad, fail(codeBadName, "A control character in the id")
		}
	}
	t.kind, t.path = kindPath, parts
	return t, nil
}

func decodeName(part string, decode func(string) (string, error)) (string, error) {
	name, err := decode(part)
	if err != nil {
		return "", fail(codeBadName, "Bad escape in the id")
	}
	if err := hostdb.CheckName(name); err != nil {
		return "", fail(codeBadName, err.Error())
	}
	return name, nil
}

// verbatim decodes ids that stand in parameters, which are decoded already.
func verbatim(s string) (string, error) { return s, nil }
