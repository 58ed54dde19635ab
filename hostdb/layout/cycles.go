package layout

import (
	"path"
	"strings"

	"hostmesh/hostdb"
)

// checkMembers drops and reports the members that name nothing, and those that make a key contain itself. into is
// what the import will find: a list may name what is there already, and what is there may lead back.
func (inv *Inventory) checkMembers(into hostdb.View, left map[string]bool, ps *Problems) {
	hosts := inv.namespace(hostdb.Hosts)
	for i := range inv.Namespaces {
		ns := &inv.Namespaces[i]
		for j := range ns.Keys {
			k := &ns.Keys[j]
			file := path.Join(ns.Name, membersDir, k.Name)
			if ns.Name == hostdb.Tags && k.Name == hostdb.AllTag && k.HasMembers {
				ps.warn(file, 0, "ignored: the members of tags/all are all hosts that are not retired")
				k.HasMembers, k.Members, k.lines = false, nil, nil
			}
			k.keepMembers(func(name string, line int) bool {
				inherited, isKey := strings.CutPrefix(name, "@")
				switch {
				case !isKey && hosts.key(name) == nil && !into.Exists(hostdb.Hosts, name):
					ps.fatal(file, line, "%s is no host: there is no hosts/%s%s", name, name, leftOut(left, "hosts/"+name))
				case isKey && ns.key(inherited) == nil && !into.Exists(ns.Name, inherited):
					ps.fatal(file, line, "%s names no key: there is no %s/%s%s", name, ns.Name, inherited, leftOut(left, ns.Name+"/"+inherited))
				default:
					return true
				}
				return false
			})
		}
		c := cycles{ns: ns, into: into, state: map[string]visit{}, beyond: map[string][]*Key{}, ps: ps}
		for j := range ns.Keys {
			c.visit(&ns.Keys[j])
		}
	}
}

func leftOut(left map[string]bool, id string) string {
	if left[id] {
		return " that can be read"
	}
	return ""
}

type visit int8

const (
	unseen visit = iota
	open         // on the way from where the search began
	done
)

// cycles is a depth-first search of one namespace that drops each member that closes a cycle. Its nodes are the keys
// whose lists come from the directory; the lists of the Store that stay are ways between them, since only a line of the
// directory can be given up.
type cycles struct {
	ns     *Namespace
	into   hostdb.View
	state  map[string]visit
	beyond map[string][]*Key // where a list that stays leads
	ps     *Problems
}

func (c *cycles) visit(k *Key) {
	if !k.HasMembers || c.state[k.Name] != unseen {
		return
	}
	c.state[k.Name] = open
	k.keepMembers(func(name string, line int) bool {
		inherited, isKey := strings.CutPrefix(name, "@")
		if !isKey {
			return true
		}
		for _, next := range c.reach(inherited) {
			if c.state[next.Name] == open {
				c.ps.fatal(path.Join(c.ns.Name, membersDir, k.Name), line,
					"%s makes a cycle: %s/%s is reached from %s/%s", name, c.ns.Name, k.Name, c.ns.Name, inherited)
				return false
			}
			c.visit(next)
		}
		return true
	})
	c.state[k.Name] = done
}

// reach are the keys with lists of the directory that name leads to over lists that stay: often name itself.
func (c *cycles) reach(name string) []*Key {
	if k := c.ns.key(name); k != nil && k.HasMembers {
		return []*Key{k}
	}
	if out, known := c.beyond[name]; known {
		return out
	}
	var out []*Key
	seen := map[string]bool{name: true}
	for todo := []string{name}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, m := range c.into.DirectMembers(c.ns.Name, at) {
			inherited, isKey := strings.CutPrefix(m.Name, "@")
			if !isKey || seen[inherited] {
				continue
			}
			seen[inherited] = true
			if k := c.ns.key(inherited); k != nil && k.HasMembers {
				out = append(out, k)
			} else {
				todo = append(todo, inherited)
			}
		}
	}
	c.beyond[name] = out
	return out
}
