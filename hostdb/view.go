package hostdb

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// View is an immutable picture of a replica: what it held at one Version. It is a value, cheap to copy, safe for any
// number of readers, never changes, and takes no lock. The zero View is an empty replica.
type View struct{ s *snapshot }

var empty = emptySnapshot()

func (v View) snap() *snapshot {
	if v.s == nil {
		return empty
	}
	return v.s
}

// Version names the state: replicas with equal versions hold the same operations. It is opaque.
type Version struct{ s *snapshot }

// Version is the version of v.
func (v View) Version() Version { return Version{v.snap()} }

// String is the version as a short text: equal texts are equal versions.
func (v Version) String() string {
	if v.s == nil || v.s.version == 0 {
		return "0"
	}
	return fmt.Sprintf("%016x", v.s.version)
}

// Vector is the number of operations held of each origin.
func (v View) Vector() iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for origin, h := range v.snap().vector.all() {
			if !yield(origin, h.seq) {
				return
			}
		}
	}
}

// Seq is the number of operations held of an origin.
func (v View) Seq(origin uint64) uint64 {
	h, _ := v.snap().vector.get(origin)
	return h.seq
}

// OriginNode is the id of the node that made an origin's run; "" when its first operation is not held.
func (v View) OriginNode(origin uint64) string {
	h, _ := v.snap().vector.get(origin)
	return h.node
}

// Applied counts the operations this replica has applied since its directory was made: its place in the local apply
// log. Other replicas count differently.
func (v View) Applied() uint64 { return v.snap().applied }

// Unfolded counts operations of a newer version that are stored and forwarded but not understood by this build.
func (v View) Unfolded() uint64 { return v.snap().lateOps }

// Digest is the digest of a namespace's live registers, in hexadecimal. Replicas with equal versions have equal
// digests if they use the same DigestAlgorithm.
func (v View) Digest(ns string) string {
	d, _ := v.snap().digests.get(ns)
	return d.String()
}

// Namespaces are the namespaces that exist, sorted; System is among them.
func (v View) Namespaces() []string { return slices.Clone(v.snap().namespaces) }

// HasNamespace reports whether ns exists.
func (v View) HasNamespace(ns string) bool {
	_, ok := slices.BinarySearch(v.snap().namespaces, ns)
	return ok
}

// Len is the number of keys of ns.
func (v View) Len(ns string) int {
	n, _ := v.snap().keys.get(ns)
	if e, _ := v.snap().entries.get(id(Tags, AllTag)); ns == Tags && !e.exists() {
		n++
	}
	return n
}

// Keys yields the keys of ns, sorted by byte.
func (v View) Keys(ns string) iter.Seq[string] {
	return func(yield func(string) bool) {
		all := ns != Tags // whether tags/all was yielded or need not be
		for k, e := range v.snap().entries.from(id(ns, "")) {
			if e.ns != ns || !strings.HasPrefix(k, ns+"\x00") {
				break
			}
			if e.key == "" || !e.exists() {
				continue
			}
			if !all && e.key >= AllTag {
				all = true
				if e.key != AllTag && !yield(AllTag) {
					return
				}
			}
			if !yield(e.key) {
				return
			}
		}
		if !all {
			yield(AllTag)
		}
	}
}

// Item is one key at one version. The zero Item is a key without anything, as tags/all is before anybody wrote it.
type Item struct{ e *entry }

// Get is the item of a key; ok is false when it does not exist. tags/all always does.
func (v View) Get(ns, key string) (item Item, ok bool) {
	e, _ := v.snap().entries.get(id(ns, key))
	if key == "" || !e.exists() {
		return Item{}, ns == Tags && key == AllTag
	}
	return Item{e}, true
}

// Exists reports whether a key does.
func (v View) Exists(ns, key string) bool {
	_, ok := v.Get(ns, key)
	return ok
}

// Data is the document of a key; not there when the key is not.
func (v View) Data(ns, key string) Document {
	item, _ := v.Get(ns, key)
	return item.Data()
}

// Data is the document; never "not there" for an existing key, but null when nothing was written.
func (i Item) Data() Document {
	if i.e == nil {
		return Document{}
	}
	if !i.e.doc.Exists() {
		return Document{leaves: nullLeaves}
	}
	return i.e.doc
}

var nullLeaves = []Leaf{{Value: Null}}

// YAML is the document in canonical YAML, ended by a newline. Its first reader makes it; then it costs nothing until the
// next change.
func (i Item) YAML() string {
	if i.e == nil {
		return "null\n"
	}
	return i.e.text.of(i.e.doc)
}

// Modified is when the data was last written, to the millisecond by its writer's clock; zero for never.
func (i Item) Modified() time.Time {
	if i.e == nil || i.e.dataStamp.IsZero() {
		return time.Time{}
	}
	return i.e.dataStamp.Time.Wall()
}

// MembersModified is when the member list was last written; zero for never.
func (i Item) MembersModified() time.Time {
	if i.e == nil || i.e.membersStamp.IsZero() {
		return time.Time{}
	}
	return i.e.membersStamp.Time.Wall()
}

// PermsModified is when the access list was last written; zero for never.
func (i Item) PermsModified() time.Time {
	if i.e == nil || i.e.perms.stamp.IsZero() {
		return time.Time{}
	}
	return i.e.perms.stamp.Time.Wall()
}

// Revision is the newest operation that wrote the data.
func (i Item) Revision() Stamp {
	if i.e == nil {
		return Stamp{}
	}
	return i.e.dataStamp
}

// ETag names the content and history of a key's data and perms (members: of its list). Equal on every node.
func (i Item) ETag(what Resource) string {
	if i.e == nil {
		return `"0"`
	}
	sum := i.e.sumDoc
	if what == Members {
		sum = i.e.sumMembers
	}
	return `"` + sum.String()[:24] + `"`
}

// Perms is the access list of a key, or of the namespace at DefaultKey; ok is false when none was written.
func (v View) Perms(ns, key string) (acl ACL, ok bool) {
	e, _ := v.snap().entries.get(id(ns, key))
	if e == nil || key != DefaultKey && !e.exists() || e.perms.value == "" || e.perms.value.IsNull() {
		return ACL{}, false
	}
	return e.acl, true
}

// PermsModified is when the access list at ns/key was last written; zero for never. It serves DefaultKey too.
func (v View) PermsModified(ns, key string) time.Time {
	e, _ := v.snap().entries.get(id(ns, key))
	return Item{e}.PermsModified()
}

// Members are the hosts that a key's list leads to, inherited ones included, sorted and unique. The slice is shared:
// callers must not change it. It is computed once per change of the list or what it inherits, on first use.
func (v View) Members(ns, key string) []string { return v.snap().expanded(ns, key) }

// DirectMembers is the member list as it was written: in order, with its comments. The last may be nameless.
func (v View) DirectMembers(ns, key string) []Member {
	e, _ := v.snap().entries.get(id(ns, key))
	if !e.exists() {
		return nil
	}
	return e.memberList()
}

func (e *entry) memberList() []Member {
	type placed struct {
		Member
		order string
	}
	list := make([]placed, 0, e.memberCount+1)
	var last *Member
	for name, r := range e.members.all() {
		switch {
		case !r.member:
		case name == "":
			last = &Member{Text: r.text}
		default:
			list = append(list, placed{Member{name, r.text}, r.order})
		}
	}
	slices.SortStableFunc(list, func(a, b placed) int { return strings.Compare(a.order, b.order) })
	out := make([]Member, 0, len(list)+1)
	for _, p := range list {
		out = append(out, p.Member)
	}
	if last != nil && last.Text != "" {
		out = append(out, *last)
	}
	return out
}

// RawMembers is the text of the member list.
func (v View) RawMembers(ns, key string) string { return FormatMembers(v.DirectMembers(ns, key)) }

// HasMember reports whether name (a host or @key) is a direct member.
func (v View) HasMember(ns, key, name string) bool {
	e, _ := v.snap().entries.get(id(ns, key))
	if !e.exists() || name == "" {
		return false
	}
	r, _ := e.members.get(name)
	return r.member
}

// MemberCount is the number of direct members.
func (v View) MemberCount(ns, key string) int {
	e, _ := v.snap().entries.get(id(ns, key))
	if !e.exists() {
		return 0
	}
	return e.memberCount
}

// Holders are the keys of ns whose list has member (a host or @key) directly, sorted. The slice is shared.
func (v View) Holders(ns, member string) []string {
	list, _ := v.snap().holders.get(id(ns, member))
	return list
}

// Parents are the keys of ns whose expanded members contain host, sorted. A host that does not exist has none.
func (v View) Parents(host, ns string) []string { return v.ParentFinder(ns).Of(host) }

// Modified is when data of any key of ns was last written or deleted; zero for never.
func (v View) Modified(ns string) time.Time {
	t, _ := v.snap().modified.get(ns)
	if t == 0 {
		return time.Time{}
	}
	return t.Wall()
}

// HostsByName are the hosts that claim a name as key, FQDN or cname, sorted; more than one is a clash.
func (v View) HostsByName(name string) []string {
	return claimants(v.snap().names, NormalName(name))
}

// HostsByAddr are the hosts that claim an address, sorted; more than one is a clash.
func (v View) HostsByAddr(addr string) []string {
	return claimants(v.snap().addrs, NormalAddr(addr))
}

// Addresses yields every claimed address, in text order, with each host that claims it.
func (v View) Addresses() iter.Seq2[string, string] {
	return func(yield func(addr, host string) bool) {
		for k := range v.snap().addrs.all() {
			addr, host, _ := strings.Cut(k, "\x00")
			if !yield(addr, host) {
				return
			}
		}
	}
}

// Change names a key that differs between two views.
type Change struct {
	NS, Key string
	Data    bool // existence or document
	Members bool // direct member list
	Perms   bool
}

// Changes yields the keys that differ from old to v, by namespace and key. It costs what changed, not the size,
// when one view grew from the other.
func (v View) Changes(old View) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		old.snap().entries.diff(v.snap().entries, func(_ string, a *entry, _ bool, b *entry, _ bool) bool {
			if a == b {
				return true
			}
			e := a
			if e == nil {
				e = b
			}
			c := Change{NS: e.ns, Key: e.key}
			var none entry
			if a == nil {
				a = &none
			}
			if b == nil {
				b = &none
			}
			c.Data = a.exists() != b.exists() || a.dataStamp != b.dataStamp || !a.doc.Equal(b.doc)
			c.Members = a.sumMembers != b.sumMembers || a.exists() != b.exists()
			c.Perms = a.perms.stamp != b.perms.stamp
			return !(c.Data || c.Members || c.Perms) || yield(c)
		})
	}
}
