package section

import (
	"fmt"
	"reflect"
	"sync"

	"hostmesh/hostdb"
)

// layout is a struct as the decoder sees it, made once of its fields and their tags.
type layout struct {
	typ    reflect.Type
	fields []field
	keys   []string // of fields
	byKey  map[string]int
	rest   *field        // takes the keys that no other field has; nil for none
	zero   reflect.Value // with all defaults
}

// field is one key of a mapping.
type field struct {
	name    string // in Go
	key     string
	index   int
	need    string // yes; combined: once all tags of a host are combined; empty: optional
	combine bool   // a section of members, which combines over their tags
	node    *node
	example string // in YAML; empty for fields that have fields
}

// node is one type of value. One of scalar, fields, elem and free is set.
type node struct {
	typ     reflect.Type
	scalar  *kind
	fields  *layout // of a struct, or of what a pointer points to
	elem    *node   // of a slice or a map
	mapKey  *kind   // of a map
	free    bool    // anything, kept as a document
	mapping bool    // free, but a mapping or nothing
	sample  string  // an example, for messages
	keyHint string  // an example of a map's key
}

// splitter is a list that may be written as one text.
type splitter interface{ split(text string) []string }

// layouts holds the layout of every struct of Host and Tag.
var layouts = sync.OnceValue(func() map[reflect.Type]*layout {
	made := map[reflect.Type]*layout{}
	layoutOf(reflect.TypeFor[Host](), made)
	layoutOf(reflect.TypeFor[Tag](), made)
	return made
})

// layoutOf panics on tags that make no sense, which any test finds.
func layoutOf(t reflect.Type, made map[reflect.Type]*layout) *layout {
	if l := made[t]; l != nil {
		return l
	}
	l := &layout{typ: t, byKey: map[string]int{}}
	made[t] = l
	for i := range t.NumField() {
		sf := t.Field(i)
		f := field{name: sf.Name, key: sf.Name, index: i, need: sf.Tag.Get("need"), combine: sf.Tag.Get("combine") != ""}
		if key := sf.Tag.Get("key"); key != "" {
			f.key = key
		}
		f.example = sf.Tag.Get("example")
		var example hostdb.Document
		if f.example != "" {
			var err error
			if example, err = hostdb.ParseDocument([]byte(f.example)); err != nil {
				panic(fmt.Sprintf("section: example of %s.%s: %v", t.Name(), sf.Name, err))
			}
		}
		f.node = nodeOf(sf.Type, sf.Tag, example, made)
		if f.key == "*" {
			l.rest = &f
			continue
		}
		l.byKey[f.key] = len(l.fields)
		l.keys = append(l.keys, f.key)
		l.fields = append(l.fields, f)
	}
	l.zero = reflect.New(t).Elem()
	if d, ok := l.zero.Addr().Interface().(interface{ defaults() }); ok {
		d.defaults()
	}
	for _, f := range l.fields {
		if f.node.fields != nil && f.node.typ.Kind() == reflect.Struct {
			l.zero.Field(f.index).Set(f.node.fields.zero)
		}
	}
	return l
}

func nodeOf(t reflect.Type, tag reflect.StructTag, example hostdb.Document, made map[reflect.Type]*layout) *node {
	n := &node{typ: t, sample: tag.Get("example")}
	if t == reflect.TypeFor[hostdb.Document]() {
		n.free, n.mapping = true, tag.Get("unit") == "mapping"
		return n
	}
	if n.scalar = kindOf(t, tag); n.scalar != nil {
		n.sample = example.Text() // of an item or entry, when the tag shows a list or mapping
		return n
	}
	switch t.Kind() {
	case reflect.Slice:
		if items := example.Items(); len(items) > 0 {
			example = items[0]
		}
		n.elem = nodeOf(t.Elem(), tag, example, made)
	case reflect.Map:
		n.mapKey = kindOf(t.Key(), reflect.StructTag(`format:"`+tag.Get("keys")+`"`))
		var first hostdb.Document
		for n.keyHint, first = range example.Keys() {
			break
		}
		n.elem = nodeOf(t.Elem(), tag, first, made)
	case reflect.Pointer:
		n.fields = layoutOf(t.Elem(), made)
	case reflect.Struct:
		n.fields = layoutOf(t, made)
	default:
		panic("section: no way to read " + t.String())
	}
	return n
}
