package hostdb

import (
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Leaf is one value of a document and where it stands.
type Leaf struct {
	Path  Path
	Value Value
}

// Document is the data of a key, or a part of it: leaves in path order, immutable. No leaf stands above another.
// The zero Document is "not there"; ParseDocument of an empty text is null, which is there.
type Document struct {
	leaves []Leaf
	cut    int // bytes of each path that lead to this part
}

// NewDocument makes a document of leaves that need not be sorted. It is meant for tests and generators;
// paths that stand above others are the caller's mistake.
func NewDocument(leaves ...Leaf) Document {
	s := slices.Clone(leaves)
	slices.SortFunc(s, func(a, b Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return Document{leaves: s}
}

// Exists reports whether there is anything, be it null.
func (d Document) Exists() bool { return len(d.leaves) > 0 }

// Leaves yields the leaves with paths relative to d, in path order.
func (d Document) Leaves() iter.Seq2[Path, Value] {
	return func(yield func(Path, Value) bool) {
		for _, l := range d.leaves {
			if !yield(d.relative(l.Path), l.Value) {
				return
			}
		}
	}
}

func (d Document) relative(p Path) Path {
	if len(p) < d.cut {
		return ""
	}
	return p[d.cut:]
}

// Value is d's value when d is a single leaf: a scalar, a sequence, an empty mapping. ok is false for a mapping with
// entries and for what is not there.
func (d Document) Value() (v Value, ok bool) {
	if len(d.leaves) == 1 && d.relative(d.leaves[0].Path) == "" {
		return d.leaves[0].Value, true
	}
	return "", false
}

// IsMapping reports whether d is a mapping, empty or not.
func (d Document) IsMapping() bool {
	v, leaf := d.Value()
	return d.Exists() && (!leaf || v == emptyMapping)
}

// IsNull reports whether d is there and null.
func (d Document) IsNull() bool {
	v, ok := d.Value()
	return ok && v.IsNull()
}

// At is the part below the mapping keys; not there when they lead nowhere.
func (d Document) At(keys ...string) Document {
	if len(keys) == 0 {
		return d
	}
	lo, hi, cut := 0, len(d.leaves), d.cut
	for _, k := range keys {
		if lo >= hi {
			return Document{}
		}
		// Leaves that begin with k: first the leaf that is k itself, or those below k followed by NUL.
		lo += searchLeaves(d.leaves[lo:hi], cut, k)
		end := lo
		if lo < hi && string(tail(d.leaves[lo].Path, cut)) == k {
			end = lo + 1
		} else {
			end = lo + searchLeaves(d.leaves[lo:hi], cut, k+"\x01")
			if end > lo && !belowKey(d.leaves[lo].Path, cut, k) {
				return Document{}
			}
		}
		hi = end
		cut += len(k) + 1
	}
	if lo >= hi {
		return Document{}
	}
	return Document{leaves: d.leaves[lo:hi:hi], cut: cut}
}

func tail(p Path, cut int) Path {
	if len(p) < cut {
		return ""
	}
	return p[cut:]
}

func belowKey(p Path, cut int, k string) bool {
	t := tail(p, cut)
	return len(t) > len(k) && t[len(k)] == 0 && string(t[:len(k)]) == k
}

// searchLeaves is the index of the first leaf whose rest after cut is at least k.
func searchLeaves(leaves []Leaf, cut int, k string) int {
	i, j := 0, len(leaves)
	for i < j {
		h := int(uint(i+j) >> 1)
		if string(tail(leaves[h].Path, cut)) < k {
			i = h + 1
		} else {
			j = h
		}
	}
	return i
}

// Text is the scalar below the mapping keys in the writer's spelling; "" when there is none or it is null.
func (d Document) Text(keys ...string) string {
	v, _ := d.At(keys...).Value()
	return v.Scalar()
}

// Keys yields the mapping keys directly below d, sorted, with what stands there.
func (d Document) Keys() iter.Seq2[string, Document] {
	return func(yield func(string, Document) bool) {
		if !d.IsMapping() {
			return
		}
		for i := 0; i < len(d.leaves); {
			key, _, deeper := strings.Cut(string(d.relative(d.leaves[i].Path)), "\x00")
			if key == "" && !deeper && len(d.leaves[i].Path) <= d.cut {
				return // the leaf is d itself: an empty mapping
			}
			j := i + 1
			for deeper && j < len(d.leaves) && belowKey(d.leaves[j].Path, d.cut, key) {
				j++
			}
			if !yield(key, Document{leaves: d.leaves[i:j:j], cut: d.cut + len(key) + 1}) {
				return
			}
			i = j
		}
	}
}

// Items are the items of a sequence, each as a document of its own; nil for anything else.
func (d Document) Items() []Document {
	v, ok := d.Value()
	if !ok || !v.IsSequence() {
		return nil
	}
	items := []Document{}
	v.parts(func(_ string, item Value) bool {
		items = append(items, item.document())
		return true
	})
	return items
}

// document spreads a Value into leaves.
func (v Value) document() Document {
	var out []Leaf
	var spread func(at Path, v Value)
	spread = func(at Path, v Value) {
		if v == "" || v[0] != 'm' || v == emptyMapping {
			out = append(out, Leaf{at, v})
			return
		}
		v.parts(func(key string, item Value) bool {
			p := Path(key)
			if at != "" {
				p = at + "\x00" + p
			}
			spread(p, item)
			return true
		})
	}
	spread("", v)
	slices.SortFunc(out, func(a, b Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return Document{leaves: out}
}

// YAML is d in canonical YAML: sorted keys, the writer's spelling of scalars, a newline at the end. What is not
// there is null.
func (d Document) YAML() string {
	var w writer
	if v, leaf := d.Value(); leaf || !d.Exists() {
		if !d.Exists() {
			v = Null
		}
		switch {
		case v.IsScalar():
			w.scalar(v, 1)
			w.b = append(w.b, '\n')
		case v == "l":
			w.b = append(w.b, "[]\n"...)
		case v == emptyMapping || !v.valid(0):
			w.b = append(w.b, "{}\n"...)
		default:
			w.block(v, 0, false)
		}
		return string(w.b)
	}
	w.b = make([]byte, 0, 32*len(d.leaves))
	w.mapping(d.leaves, d.cut, 0)
	return string(w.b)
}

// Any is d as encoding/json knows it: map[string]any, []any, string, json.Number, bool and nil. Plain scalars that
// JSON has no spelling for (0755, 2024-01-01, yes) are strings, in the writer's spelling.
func (d Document) Any() any {
	if v, leaf := d.Value(); leaf {
		return v.any()
	}
	if !d.Exists() {
		return nil
	}
	m := make(map[string]any)
	for k, sub := range d.Keys() {
		m[k] = sub.Any()
	}
	return m
}

// MarshalJSON implements json.Marshaler with Any.
func (d Document) MarshalJSON() ([]byte, error) { return json.Marshal(d.Any()) }

func (v Value) any() any {
	switch {
	case v == "" || v.IsNull():
		return nil
	case v[0] == 's':
		return string(v[1:])
	case v[0] == 'p':
		text := string(v[1:])
		switch text {
		case "true":
			return true
		case "false":
			return false
		}
		if json.Valid([]byte(text)) {
			if _, err := strconv.ParseFloat(text, 64); err == nil {
				return json.Number(text)
			}
		}
		return text
	case v[0] == 'l':
		list := []any{}
		v.parts(func(_ string, item Value) bool { list = append(list, item.any()); return true })
		return list
	default:
		m := map[string]any{}
		v.parts(func(k string, item Value) bool { m[k] = item.any(); return true })
		return m
	}
}

// Equal reports whether both hold the same values at the same paths.
func (d Document) Equal(o Document) bool {
	return slices.EqualFunc(d.leaves, o.leaves, func(a, b Leaf) bool {
		return d.relative(a.Path) == o.relative(b.Path) && a.Value == b.Value
	})
}

// With is d with what stands at path replaced by sub. The parent of path must be a mapping: ErrNoParent when it is
// not there, ErrNotMapping when it is something else.
func (d Document) With(path Path, sub Document) (Document, error) {
	keep, err := d.without(path)
	if err != nil {
		return Document{}, err
	}
	for p, v := range sub.Leaves() {
		keep = append(keep, Leaf{path.join(p), v})
	}
	return NewDocument(keep...), nil
}

// Without is d with nothing at path; a mapping that loses its last entry stays as an empty one. ErrNotFound when
// there is nothing.
func (d Document) Without(path Path) (Document, error) {
	if !d.At(path.Segments()...).Exists() {
		return Document{}, refuse(ErrNotFound, "there is nothing at %s", path)
	}
	keep, err := d.without(path)
	if err != nil {
		return Document{}, err
	}
	parent := path.parent()
	if !slices.ContainsFunc(keep, func(l Leaf) bool { return parent.Above(l.Path) || l.Path == parent }) {
		keep = append(keep, Leaf{parent, emptyMapping})
	}
	return NewDocument(keep...), nil
}

// without is the leaves of d that neither stand at path nor below it nor mark its parent as empty.
func (d Document) without(path Path) ([]Leaf, error) {
	if path != "" {
		switch parent := d.At(path.parent().Segments()...); {
		case !parent.Exists():
			if err := d.blocked(path.parent()); err != nil {
				return nil, err
			}
			return nil, refuse(ErrNoParent, "there is no %s to write into", path.parent())
		case !parent.IsMapping() && !(parent.IsNull() && path.parent() == ""):
			return nil, refuse(ErrNotMapping, "%s is not a mapping", orRoot(path.parent()))
		}
	}
	var keep []Leaf
	for p, v := range d.Leaves() {
		if p == path || path.Above(p) || p.Above(path) {
			continue
		}
		keep = append(keep, Leaf{p, v})
	}
	return keep, nil
}

// blocked says which leaf on the way to path is no mapping.
func (d Document) blocked(path Path) error {
	for p := range d.Leaves() {
		if p.Above(path) {
			return refuse(ErrNotMapping, "%s is not a mapping", orRoot(p))
		}
	}
	return nil
}

func orRoot(p Path) string {
	if p == "" {
		return "the document"
	}
	return p.String()
}

// parent is p without its last mapping key.
func (p Path) parent() Path {
	if i := strings.LastIndexByte(string(p), 0); i >= 0 {
		return p[:i]
	}
	return ""
}
