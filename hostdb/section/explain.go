package section

import (
	"slices"
	"strings"

	"hostmesh/hostdb"
)

// Loser is what a source says that does not reach the host, because a stronger one says something else.
type Loser struct {
	// Path is that of the setting, or above or below it where one has a mapping and the other has not.
	Path  hostdb.Path
	Value hostdb.Value
	From  Source
	// Equal is set when From is as strong as who won, so that only their names decided: a disagreement.
	Equal bool
}

// Explained is a setting with everything that lost to it, the strongest first.
type Explained struct {
	Setting
	Overridden []Loser
}

// Explanation is what a host gets, and why.
type Explanation struct {
	Result
	// Settings are those of Result in the same order. What says the same as the winner has not lost.
	Settings []Explained
}

// Explain is Effective with what lost. It costs several times as much: it is for a person who asks.
func Explain(v hostdb.View, host string) Explanation {
	item, ok := v.Get(hostdb.Hosts, host)
	if !ok {
		return Explanation{Result: Result{Host: host}}
	}
	own := part{Source{ID: hostdb.Hosts + "/" + host, Rank: Own}, item.Data()}
	return explainParts(host, append([]part{own}, partsOf(v, TagsOf(v, host))...))
}

func explainParts(host string, parts []part) Explanation {
	e := Explanation{Result: combine(host, parts)}
	e.Settings = make([]Explained, len(e.Result.Settings))
	for i, s := range e.Result.Settings {
		e.Settings[i].Setting = s
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b part) int { return a.from.compare(b.from) })
	for _, p := range parts {
		for key, doc := range p.doc.Keys() {
			if !combines(key) {
				continue
			}
			for rest, value := range doc.Leaves() {
				path := hostdb.PathOf(key)
				if rest != "" {
					path += "\x00" + rest
				}
				e.lose(Loser{Path: path, Value: value, From: p.from})
			}
		}
	}
	return e
}

// lose notes l with the setting that it lost to, unless it won, says the same, or says nothing.
func (e *Explanation) lose(l Loser) {
	if l.Value.IsNull() {
		return
	}
	i := e.place(l.Path)
	if i < 0 {
		return
	}
	s := &e.Settings[i]
	if s.Path == l.Path && (s.From == l.From || s.Value == l.Value) {
		return
	}
	if l.Path.Above(s.Path) && hostdb.NewDocument(hostdb.Leaf{Value: l.Value}).IsMapping() {
		return // a mapping without entries agrees with any other
	}
	l.Equal = l.From.equal(s.From) && l.From != s.From
	s.Overridden = append(s.Overridden, l)
}

// place is the setting at path, else the one above it, else the first below it or below the nearest path above it that
// has any; -1 when there is none.
func (e *Explanation) place(path hostdb.Path) int {
	for at := path; ; {
		i, found := slices.BinarySearchFunc(e.Settings, at, func(s Explained, p hostdb.Path) int {
			return strings.Compare(string(s.Path), string(p))
		})
		if found || i < len(e.Settings) && at.Above(e.Settings[i].Path) {
			return i
		}
		cut := strings.LastIndexByte(string(at), 0)
		if cut < 0 {
			return -1
		}
		at = at[:cut]
	}
}

// TagsOf are the tags of a host as sources, the strongest first; none for a host that does not exist.
func TagsOf(v hostdb.View, host string) []Source {
	var out []Source
	for _, tag := range v.Parents(host, hostdb.Tags) {
		s := Source{ID: hostdb.Tags + "/" + tag, Priority: priority(v.Data(hostdb.Tags, tag))}
		if v.HasMember(hostdb.Tags, tag, host) {
			s.Rank = Direct
		}
		out = append(out, s)
	}
	slices.SortFunc(out, Source.compare)
	return out
}

// CombineTags is what tags, as TagsOf gives them, make of any host that has no say itself. Hosts with the same tags share
// it. A host's own document can end a disagreement of its tags, and never begins one.
func CombineTags(v hostdb.View, tags []Source) Result { return combine("", partsOf(v, tags)) }

func partsOf(v hostdb.View, tags []Source) []part {
	parts := make([]part, len(tags))
	for i, s := range tags {
		parts[i] = part{s, v.Data(hostdb.Tags, strings.TrimPrefix(s.ID, hostdb.Tags+"/"))}
	}
	return parts
}

// Decides reports whether a host's own document ends a disagreement of its tags about path.
func Decides(host hostdb.Document, path hostdb.Path) bool {
	keys := path.Segments()
	for i := 1; i <= len(keys); i++ {
		doc := host.At(keys[:i]...)
		if !doc.Exists() || doc.IsNull() {
			return false
		}
		if i == len(keys) || !doc.IsMapping() {
			return true
		}
	}
	return false
}

// combines reports whether what stands under a top-level key of a source reaches the host.
func combines(key string) bool {
	tag := layoutFor[Tag]()
	i, section := tag.byKey[key]
	return !section || tag.fields[i].combine
}

// Configures reports whether a host's own document has a section that configures it, which else its tags alone do.
func Configures(host hostdb.Document) bool {
	tag := layoutFor[Tag]()
	return slices.ContainsFunc(tag.fields, func(f field) bool { return f.combine && host.At(f.key).Exists() })
}

// Nearest is the known name that name was probably meant to be, "" when it is like none.
func Nearest(name string, known []string) string { return nearest(name, known) }
