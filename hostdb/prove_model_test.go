package hostdb_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// The reference of the merge: a direct reading of the rules on the set of operations, without any of the code that merges.
// It keeps nothing between two looks and knows no order of arrival: all effects of a key are put on the table and judged.

type refKey struct{ ns, key string }

// refEffect is an effect with the stamp of its operation.
type refEffect struct {
	hostdb.Effect
	stamp hostdb.Stamp
}

func (x refEffect) base() hostdb.Stamp     { return orZero(x.Base) }
func (x refEffect) replaces() hostdb.Stamp { return orZero(x.Replaces) }

func orZero(s *hostdb.Stamp) hostdb.Stamp {
	if s == nil {
		return hostdb.Stamp{}
	}
	return *s
}

func newer(a, b hostdb.Stamp) hostdb.Stamp {
	if a.Less(b) {
		return b
	}
	return a
}

// refRegister is one place where the last writer wins: all live effects on it.
type refRegister []refEffect

func (r refRegister) winner() refEffect {
	return slices.MaxFunc(r, func(a, b refEffect) int { return a.stamp.Compare(b.stamp) })
}

// loser is the newest write that the winner hides though its writer had not seen it.
func (r refRegister) loser() (lost hostdb.Stamp, ok bool) {
	w := r.winner()
	for _, x := range r {
		if x.stamp != w.stamp && w.replaces().Less(x.stamp) {
			lost, ok = newer(lost, x.stamp), true
		}
	}
	return lost, ok
}

// refEntry is what the rules make of one key.
type refEntry struct {
	exists    bool
	doc       map[hostdb.Path]hostdb.Value
	list      []hostdb.Member
	in        map[string]bool // direct members
	perms     hostdb.Value
	conflicts []hostdb.Conflict
}

type model map[refKey]*refEntry

func newModel(ops []*hostdb.Operation) model {
	table := map[refKey][]refEffect{}
	for _, op := range ops {
		for _, x := range op.Effects {
			k := refKey{x.NS, x.Key}
			table[k] = append(table[k], refEffect{x, op.Stamp()})
		}
	}
	m := model{}
	for k, effects := range table {
		m[k] = judge(k, effects)
	}
	return m
}

func judge(k refKey, effects []refEffect) *refEntry {
	// The generation: the newest delete that anybody has made or seen.
	var gen hostdb.Stamp
	for _, x := range effects {
		if x.Kind == hostdb.DeleteKey {
			gen = newer(gen, x.stamp)
		} else {
			gen = newer(gen, x.base())
		}
	}
	var created, perms refRegister
	leaves, members := map[hostdb.Path]refRegister{}, map[string]refRegister{}
	var deleter *refEffect
	var late hostdb.Stamp // newest write of an older generation
	for _, x := range effects {
		switch {
		case x.Kind == hostdb.DeleteKey:
			if x.stamp == gen {
				deleter = &x
			}
		case x.base() != gen:
			if x.stamp != gen {
				late = newer(late, x.stamp)
			}
		case x.Kind == hostdb.CreateKey:
			created = append(created, x)
		case x.Kind == hostdb.SetLeaf || x.Kind == hostdb.UnsetLeaf:
			p := hostdb.PathOf(x.Path...)
			leaves[p] = append(leaves[p], x)
		case x.Kind == hostdb.PutMember || x.Kind == hostdb.RemoveMember:
			members[x.Member] = append(members[x.Member], x)
		case x.Kind == hostdb.SetPerms:
			perms = append(perms, x)
		}
	}
	e := &refEntry{exists: len(created) > 0, in: map[string]bool{}}
	conflict := func(what hostdb.Resource, at string, winner, loser hostdb.Stamp) {
		e.conflicts = append(e.conflicts, hostdb.Conflict{NS: k.ns, Key: k.key, What: what, At: at, Winner: winner, Loser: loser})
	}
	if deleter != nil && deleter.replaces().Less(late) && !(e.exists && !created.winner().replaces().Less(late)) {
		conflict("", "", gen, late)
	}
	e.judgeData(leaves, conflict)
	e.judgeMembers(members, conflict)
	if len(perms) > 0 {
		if w := perms.winner(); !w.Value.IsNull() {
			e.perms = w.Value
		}
		if loser, ok := perms.loser(); ok {
			conflict(hostdb.Perms, "", perms.winner().stamp, loser)
		}
	}
	return e
}

const refMapping = hostdb.Value("m") // an empty mapping: it says that one is here, and hides nothing below

func (e *refEntry) judgeData(leaves map[hostdb.Path]refRegister, conflict func(hostdb.Resource, string, hostdb.Stamp, hostdb.Stamp)) {
	values := map[hostdb.Path]refEffect{}
	for p, r := range leaves {
		if w := r.winner(); w.Kind == hostdb.SetLeaf {
			values[p] = w
		}
	}
	e.doc = map[hostdb.Path]hostdb.Value{}
	hider := map[hostdb.Path]hostdb.Stamp{} // newest value above or below
	for p, x := range values {
		hidden := false
		for q, y := range values {
			if !p.Above(q) && !q.Above(p) {
				continue
			}
			hider[p] = newer(hider[p], y.stamp)
			if x.stamp.Less(y.stamp) && !(q.Above(p) && y.Value == refMapping) {
				hidden = true
			}
		}
		if !hidden {
			e.doc[p] = x.Value
		}
	}
	for p, v := range maps.Clone(e.doc) {
		for q := range e.doc {
			if v == refMapping && p.Above(q) {
				delete(e.doc, p)
				break
			}
		}
	}
	for p, r := range leaves {
		if loser, ok := r.loser(); ok {
			conflict(hostdb.Data, p.String(), r.winner().stamp, loser)
			continue
		}
		if x, is := values[p]; is && x.Value != refMapping {
			if _, shown := e.doc[p]; !shown {
				conflict(hostdb.Data, p.String(), hider[p], x.stamp)
			}
		}
	}
}

func (e *refEntry) judgeMembers(members map[string]refRegister, conflict func(hostdb.Resource, string, hostdb.Stamp, hostdb.Stamp)) {
	order := map[string]string{}
	var last string
	for name, r := range members {
		w := r.winner()
		if loser, ok := r.loser(); ok {
			conflict(hostdb.Members, name, w.stamp, loser)
		}
		if w.Kind != hostdb.PutMember {
			continue
		}
		if name == "" {
			last = w.Text
			continue
		}
		e.in[name], order[name] = true, w.Order
		e.list = append(e.list, hostdb.Member{Name: name, Text: w.Text})
	}
	slices.SortFunc(e.list, func(a, b hostdb.Member) int {
		if c := strings.Compare(order[a.Name], order[b.Name]); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	if last != "" {
		e.list = append(e.list, hostdb.Member{Text: last})
	}
}

func (m model) exists(ns, key string) bool {
	e := m[refKey{ns, key}]
	return e != nil && e.exists || ns == hostdb.Tags && key == hostdb.AllTag
}

func (m model) namespaces() []string {
	out := []string{hostdb.System, hostdb.Hosts, hostdb.Tags}
	for k, e := range m {
		if k.key == "" && e.exists && !slices.Contains(out, k.ns) {
			out = append(out, k.ns)
		}
	}
	slices.Sort(out)
	return out
}

func (m model) keys(ns string) []string {
	var out []string
	for k := range m {
		if k.ns == ns && k.key != "" && k.key != hostdb.AllTag && m.exists(ns, k.key) {
			out = append(out, k.key)
		}
	}
	if ns == hostdb.Tags {
		out = append(out, hostdb.AllTag)
	}
	slices.Sort(out)
	return out
}

func (m model) document(ns, key string) hostdb.Document {
	e := m[refKey{ns, key}]
	switch {
	case e == nil || !e.exists:
		return hostdb.Document{}
	case len(e.doc) == 0:
		return hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Null})
	}
	var leaves []hostdb.Leaf
	for p, v := range e.doc {
		leaves = append(leaves, hostdb.Leaf{Path: p, Value: v})
	}
	return hostdb.NewDocument(leaves...)
}

// expanded are the hosts that a list leads to: what is missing is left out, and what comes back to itself ends.
func (m model) expanded(ns, key string) []string {
	found, seen := map[string]bool{}, map[string]bool{}
	var down func(string)
	down = func(key string) {
		if seen[key] || !m.exists(ns, key) {
			return
		}
		seen[key] = true
		if ns == hostdb.Tags && key == hostdb.AllTag {
			for _, h := range m.keys(hostdb.Hosts) {
				if !strings.EqualFold(m.document(hostdb.Hosts, h).Text("Status"), "retired") {
					found[h] = true
				}
			}
			return
		}
		for name := range m[refKey{ns, key}].in {
			if inherited, is := strings.CutPrefix(name, "@"); is {
				down(inherited)
			} else if m.exists(hostdb.Hosts, name) {
				found[name] = true
			}
		}
	}
	down(key)
	return slices.Sorted(maps.Keys(found))
}

// claims are the names, or the addresses, of a host.
func (m model) claims(host string) (names, addrs map[string]bool) {
	names, addrs = map[string]bool{}, map[string]bool{}
	d := m.document(hostdb.Hosts, host)
	for _, s := range append(strings.FieldsFunc(d.Text("Network", "cname"), func(r rune) bool { return r == ',' || r == ' ' }), host, d.Text("Network", "FQDN")) {
		names[strings.ToLower(s)] = true
	}
	for _, item := range d.At("Network", "cname").Items() {
		names[strings.ToLower(item.Text())] = true
	}
	addr := func(s string) { addrs[hostdb.NormalAddr(s)] = true }
	addr(d.Text("Network", "IP"))
	addr(d.Text("Network", "IPv6"))
	for _, i := range d.At("Interfaces").Keys() {
		addr(i.Text("IP"))
		addr(i.Text("IPv6"))
	}
	delete(names, "")
	delete(addrs, "")
	return names, addrs
}

// differs says where a view is not what the rules make of the operations; "" when it is.
func (m model) differs(v hostdb.View) string {
	if got, want := v.Namespaces(), m.namespaces(); !slices.Equal(got, want) {
		return fmt.Sprintf("namespaces %q, want %q", got, want)
	}
	parents := map[refKey][]string{} // namespace and host
	for _, ns := range m.namespaces() {
		keys := m.keys(ns)
		if got := slices.Collect(v.Keys(ns)); !slices.Equal(got, keys) || v.Len(ns) != len(keys) {
			return fmt.Sprintf("keys of %s are %q (%d), want %q", ns, got, v.Len(ns), keys)
		}
		for _, key := range keys {
			hosts := m.expanded(ns, key)
			for _, h := range hosts {
				parents[refKey{ns, h}] = append(parents[refKey{ns, h}], key)
			}
			if got := v.Members(ns, key); !slices.Equal(got, hosts) {
				return fmt.Sprintf("members of %s/%s are %q, want %q", ns, key, got, hosts)
			}
		}
	}
	for k, e := range m {
		if got := slices.Collect(v.Conflicts(k.ns, k.key)); !slices.Equal(sortConflicts(got), sortConflicts(e.conflicts)) {
			return fmt.Sprintf("conflicts of %s/%s are %v, want %v", k.ns, k.key, got, e.conflicts)
		}
		if acl, ok := v.Perms(k.ns, k.key); (ok || e.perms != "") && (e.exists || k.key == hostdb.DefaultKey) {
			want, err := hostdb.ParseACL([]byte(e.perms.Scalar()))
			if err != nil || !ok || acl.YAML() != want.YAML() {
				return fmt.Sprintf("perms of %s/%s are %q, want %q", k.ns, k.key, acl.YAML(), want.YAML())
			}
		}
		if k.key == "" || !e.exists {
			continue
		}
		if got, want := v.Data(k.ns, k.key), m.document(k.ns, k.key); !got.Equal(want) {
			return fmt.Sprintf("data of %s/%s is %q, want %q", k.ns, k.key, got.YAML(), want.YAML())
		}
		if got := v.DirectMembers(k.ns, k.key); !slices.Equal(got, e.list) {
			return fmt.Sprintf("list of %s/%s is %q, want %q", k.ns, k.key, got, e.list)
		}
	}
	names, addrs := map[string][]string{}, map[string][]string{}
	for _, h := range m.keys(hostdb.Hosts) {
		for _, ns := range m.namespaces() {
			if got, want := v.Parents(h, ns), parents[refKey{ns, h}]; !slices.Equal(got, want) {
				return fmt.Sprintf("parents of %s in %s are %q, want %q", h, ns, got, want)
			}
		}
		n, a := m.claims(h)
		for name := range n {
			names[name] = append(names[name], h)
		}
		for addr := range a {
			addrs[addr] = append(addrs[addr], h)
		}
	}
	for name, hosts := range names {
		if got := v.HostsByName(name); !slices.Equal(got, hosts) {
			return fmt.Sprintf("hosts named %s are %q, want %q", name, got, hosts)
		}
	}
	claims := 0
	for addr, hosts := range addrs {
		if got := v.HostsByAddr(addr); !slices.Equal(got, hosts) {
			return fmt.Sprintf("hosts at %s are %q, want %q", addr, got, hosts)
		}
		claims += len(hosts)
	}
	for range v.Addresses() {
		claims--
	}
	if claims != 0 {
		return fmt.Sprintf("%d addresses are claimed that nobody has", -claims)
	}
	return ""
}

func sortConflicts(list []hostdb.Conflict) []hostdb.Conflict {
	slices.SortFunc(list, func(a, b hostdb.Conflict) int {
		if c := strings.Compare(string(a.What), string(b.What)); c != 0 {
			return c
		}
		return strings.Compare(a.At, b.At)
	})
	return list
}
