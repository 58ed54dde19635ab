package section

import (
	"cmp"
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// Rank is how near a source of data is to a host. A nearer one beats all that are further away.
type Rank int

// The ranks, furthest first.
const (
	Inherited Rank = iota // a tag that reaches the host through another; and the tag all, which has no list
	Direct                // a tag that lists the host itself
	Own                   // the host's document
)

// String is the rank as explain shows it.
func (r Rank) String() string {
	switch r {
	case Own:
		return "host"
	case Direct:
		return "direct"
	}
	return "inherited"
}

// MarshalText implements encoding.TextMarshaler with String.
func (r Rank) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Source is a document that has a say in what a host gets.
type Source struct {
	ID       string // hosts/KEY or tags/KEY
	Rank     Rank
	Priority int // of the tag; 0 for the host
}

// compare orders sources by who wins: rank, then priority, then name, the first in the alphabet.
func (s Source) compare(o Source) int {
	return cmp.Or(cmp.Compare(o.Rank, s.Rank), cmp.Compare(o.Priority, s.Priority), strings.Compare(s.ID, o.ID))
}

// equal reports whether nothing but the name decides between s and o.
func (s Source) equal(o Source) bool { return s.Rank == o.Rank && s.Priority == o.Priority }

// Setting is one value that a host gets, and where it comes from.
type Setting struct {
	Path  hostdb.Path
	Value hostdb.Value
	From  Source
}

// Disagreement is a place where sources of equal rank and priority say different things, so that only their names
// decided. Doctor shows it: somebody should set a Priority.
type Disagreement struct {
	Path  hostdb.Path
	Used  Source   // whose value the host gets
	Other []Source // who says something else, as strong
}

// Result is what a host gets from its own document and all its tags.
type Result struct {
	Host string
	// Document is all of it combined: the host's facts, and of its tags what configures members. Sections that
	// describe a tag itself (DNS, Subnet, LB, Group, Placement, MySQL, Service) and Priority are not in it: a mixture of two
	// balancers is none.
	Document hostdb.Document
	// Settings are the values of Document with their sources, in the order of paths.
	Settings []Setting
	// Sources are the host and its tags, the strongest first.
	Sources []Source
	// Disagreements are in the order of paths.
	Disagreements []Disagreement
}

// Sections reads the sections of Document. Problems tell what no tag is to blame for alone, such as a Backup for which
// no tag names a repository.
func (r Result) Sections() (Tag, []Problem) {
	d := decoder{bad: Error, combined: true, beside: func(string, hostdb.Document) bool { return true }}
	var t Tag
	read(&d, r.Document, &t)
	return t, d.problems
}

// Origin is where the value at path comes from; of a mapping, where the first value in it comes from. ok is false when
// there is nothing.
func (r Result) Origin(path hostdb.Path) (from Source, ok bool) {
	i, _ := slices.BinarySearchFunc(r.Settings, path, func(s Setting, p hostdb.Path) int {
		return strings.Compare(string(s.Path), string(p))
	})
	if i < len(r.Settings) && (path == "" || r.Settings[i].Path == path || path.Above(r.Settings[i].Path)) {
		return r.Settings[i].From, true
	}
	return Source{}, false
}

// Effective combines what all tags of a host and its own document say. A host that does not exist gets nothing.
//
// The host beats a tag that lists it, which beats an inherited tag; then the higher Priority wins, then the name that
// is first in the alphabet. Mappings merge, key by key. Of everything else (a text, a list) the strongest is taken
// whole, and it hides a weaker mapping at its place, with all that is weaker still. Null says nothing: it stands only
// where nobody says more. It is a function of the view, whatever the order in which members and tags were written.
func Effective(v hostdb.View, host string) Result {
	item, ok := v.Get(hostdb.Hosts, host)
	if !ok {
		return Result{Host: host}
	}
	parts := []part{{Source{ID: hostdb.Hosts + "/" + host, Rank: Own}, item.Data()}}
	for _, tag := range v.Parents(host, hostdb.Tags) {
		doc := v.Data(hostdb.Tags, tag)
		s := Source{ID: hostdb.Tags + "/" + tag, Priority: priority(doc)}
		if v.HasMember(hostdb.Tags, tag, host) {
			s.Rank = Direct
		}
		parts = append(parts, part{s, doc})
	}
	return combine(host, parts)
}

func priority(tag hostdb.Document) int {
	n, err := parseInteger(strings.TrimSpace(tag.Text("Priority")))
	if err != nil {
		return 0
	}
	return int(n)
}

// part is what one source says about one place.
type part struct {
	from Source
	doc  hostdb.Document
}

func combine(host string, parts []part) Result {
	r := Result{Host: host}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b part) int { return a.from.compare(b.from) })
	for _, p := range parts {
		r.Sources = append(r.Sources, p.from)
	}
	r.root(parts)
	leaves := make([]hostdb.Leaf, len(r.Settings))
	for i, s := range r.Settings {
		leaves[i] = hostdb.Leaf{Path: s.Path, Value: s.Value}
	}
	if len(leaves) > 0 {
		r.Document = hostdb.NewDocument(leaves...)
	}
	return r
}

// root combines the top level, where only mappings count and a tag's own sections stay out.
func (r *Result) root(parts []part) {
	tag := layoutFor[Tag]()
	var keys []string
	for _, p := range parts {
		for key := range p.doc.Keys() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if i, section := tag.byKey[key]; section && !tag.fields[i].combine {
			continue
		}
		r.merge(hostdb.PathOf(key), below(parts, key))
	}
}

// merge combines what parts, the strongest first, say at path.
func (r *Result) merge(path hostdb.Path, parts []part) {
	if said := slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return p.doc.IsNull() }); len(said) > 0 {
		parts = said
	}
	if len(parts) == 0 {
		return
	}
	best := parts[0]
	mapping := best.doc.IsMapping()
	weaker := slices.IndexFunc(parts, func(p part) bool { return !p.doc.IsMapping() })
	var other []Source
	for _, p := range parts[1:] {
		if p.from.equal(best.from) && (mapping != p.doc.IsMapping() || !mapping && !p.doc.Equal(best.doc)) {
			other = append(other, p.from)
		}
	}
	if len(other) > 0 {
		r.Disagreements = append(r.Disagreements, Disagreement{path, best.from, other})
	}
	if !mapping {
		value, _ := best.doc.Value()
		r.Settings = append(r.Settings, Setting{path, value, best.from})
		return
	}
	if weaker >= 0 {
		parts = parts[:weaker]
	}
	var keys []string
	for _, p := range parts {
		for key := range p.doc.Keys() {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		value, _ := best.doc.Value() // an empty mapping
		r.Settings = append(r.Settings, Setting{path, value, best.from})
		return
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		r.merge(path+"\x00"+hostdb.PathOf(key), below(parts, key))
	}
}

// below is what parts say below key, without those that say nothing.
func below(parts []part, key string) []part {
	var out []part
	for _, p := range parts {
		if doc := p.doc.At(key); doc.Exists() {
			out = append(out, part{p.from, doc})
		}
	}
	return out
}
