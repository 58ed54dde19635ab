package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v4"

	"hostmesh/hostdb"
)

// user is somebody whom hostmesh knows by itself: an entry of the users file, or a record of HostDB.
type user struct {
	password passwordHash
	allow    []netip.Prefix
	groups   []string
	// sessions tells the sessions that were made with this password from those made with an earlier one; nil for what
	// follows from the hash. A hash that is made anew of the same password keeps it.
	sessions []byte
}

// allows reports whether u may come from addr.
func (u user) allows(addr netip.Addr) bool {
	for _, p := range u.allow {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// parseUsers reads a users file. Errors name the line and never quote a password.
func parseUsers(text []byte) (map[string]user, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	users := map[string]user{}
	if root.Kind == 0 || len(root.Content) == 0 || isNull(root.Content[0]) {
		return users, nil
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, atLine(top, "expected a mapping of user names to {password: ..., allow: [...], groups: [...]}")
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := key.Value
		if err := checkUser(name); err != nil {
			return nil, atLine(key, "user name: %v", err)
		}
		if len(name) > maxUserName {
			return nil, atLine(key, "user name: %d bytes, at most %d are allowed", len(name), maxUserName)
		}
		if _, twice := users[name]; twice {
			return nil, atLine(key, "user %s is there twice", name)
		}
		u, err := parseUser(name, value)
		if err != nil {
			return nil, err
		}
		users[name] = u
	}
	return users, nil
}

func parseUser(name string, n *yaml.Node) (user, error) {
	if n.Kind != yaml.MappingNode {
		return user{}, atLine(n, "user %s: expected {password: ..., allow: [...], groups: [...]}", name)
	}
	var u user
	hasPassword := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch key.Value {
		case "password":
			if value.Kind != yaml.ScalarNode {
				return user{}, atLine(value, "user %s: password must be a text", name)
			}
			h, err := parsePassword(value.Value)
			if err != nil {
				return user{}, atLine(value, "user %s: password: %v", name, err)
			}
			u.password, hasPassword = h, true
		case "allow":
			items, err := texts(value)
			if err != nil {
				return user{}, atLine(value, "user %s: allow: %v", name, err)
			}
			for _, item := range items {
				p, err := parsePrefix(item.Value)
				if err != nil {
					return user{}, atLine(item, "user %s: allow: %q: expected an address or a network, such as 10.0.0.0/8", name, item.Value)
				}
				u.allow = append(u.allow, p)
			}
		case "groups":
			items, err := texts(value)
			if err != nil {
				return user{}, atLine(value, "user %s: groups: %v", name, err)
			}
			for _, item := range items {
				if err := checkUser(item.Value); err != nil {
					return user{}, atLine(item, "user %s: groups: %v", name, err)
				}
				u.groups = append(u.groups, item.Value)
			}
		default:
			return user{}, atLine(key, "user %s: unknown field %q: expected password, allow or groups", name, key.Value)
		}
	}
	if !hasPassword {
		return user{}, atLine(n, "user %s has no password", name)
	}
	return u, nil
}

// texts are the items of a list of scalars. Null is an empty list.
func texts(n *yaml.Node) ([]*yaml.Node, error) {
	if isNull(n) {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, errors.New("expected a list, such as [a, b]")
	}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: expected a text", item.Line)
		}
	}
	return n.Content, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New("not an address")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("not a network")
	}
	return p.Masked(), nil
}

// checkUser reports whether name may name a user or group. Parentheses are kept for those of the unix socket, whom
// history shows as root(alice).
func checkUser(name string) error {
	if err := hostdb.CheckName(name); err != nil {
		return err
	}
	if strings.ContainsAny(name, "()") {
		return fmt.Errorf("%q has parentheses, which mark users of the local socket: %w", name, hostdb.ErrBadName)
	}
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func atLine(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...))
}
