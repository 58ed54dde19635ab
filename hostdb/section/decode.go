package section

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"hostmesh/hostdb"
)

// decoder reads documents into structs and notes what is wrong with them.
type decoder struct {
	problems []Problem
	path     []string
	bad      Severity // of a value that cannot be read
	free     bool     // other keys may stand beside the known ones; only what looks like a slip is told
	combined bool     // the document is that of all tags of a host: what one of them had to say must be there
	// beside is asked first about a key of the document itself that is no field; it reports whether it knew the key.
	beside func(key string, doc hostdb.Document) bool
}

// report notes a problem with the value below keys; value is "" when the reason says it all.
func (d *decoder) report(severity Severity, value, reason string, keys ...string) {
	p := Problem{Path: hostdb.PathOf(append(slices.Clone(d.path), keys...)...), Value: short(value), Reason: reason, Severity: severity}
	if value != "" {
		p.Reason = strconv.Quote(p.Value) + " " + reason
	}
	d.problems = append(d.problems, p)
}

// short is text as it can be shown in a message.
func short(text string) string {
	const most = 64
	if r := []rune(text); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return text
}

func (d *decoder) at(key string, do func()) {
	d.path = append(d.path, key)
	do()
	d.path = d.path[:len(d.path)-1]
}

// report is what the check method of a struct tells of its fields once they are read.
type report struct{ d *decoder }

// bad notes what is wrong with the value at keys below the struct.
func (r *report) bad(value, reason string, keys ...string) {
	r.d.report(r.d.bad, value, reason, keys...)
}

// told reports whether something is wrong with the value at keys already.
func (r *report) told(keys ...string) bool {
	path := hostdb.PathOf(append(slices.Clone(r.d.path), keys...)...)
	return slices.ContainsFunc(r.d.problems, func(p Problem) bool { return p.Path == path })
}

// absent reports whether nothing is said: not there, null, or an empty text.
func absent(doc hostdb.Document) bool {
	v, leaf := doc.Value()
	return !doc.Exists() || leaf && v.IsScalar() && strings.TrimSpace(v.Scalar()) == ""
}

// structure reads a mapping into v, which holds the defaults. It reports whether it was one, or nothing.
func (d *decoder) structure(doc hostdb.Document, v reflect.Value, l *layout) bool {
	ok := absent(doc) || doc.IsMapping()
	if !ok {
		d.wrongShape(doc, "a mapping", "one with keys such as "+strings.Join(l.keys[:min(len(l.keys), 4)], ", "))
	}
	for _, f := range l.fields {
		sub := doc.At(f.key)
		d.at(f.key, func() { d.field(sub, v.Field(f.index), &f, ok) })
	}
	for key, sub := range doc.Keys() {
		if _, known := l.byKey[key]; !known {
			d.at(key, func() { d.unknown(key, sub, v, l) })
		}
	}
	if c, checks := v.Addr().Interface().(interface{ check(*report) }); checks && ok {
		c.check(&report{d})
	}
	return ok
}

// field reads one field. Whether it must be there is asked only if the mapping around it is one.
func (d *decoder) field(doc hostdb.Document, v reflect.Value, f *field, ask bool) {
	if !absent(doc) {
		d.value(doc, v, f.node)
	} else if f.node.fields != nil && f.node.typ.Kind() == reflect.Struct && ask {
		d.structure(hostdb.Document{}, v, f.node.fields)
	}
	if !ask || f.need == "" || f.need == "combined" && !d.combined {
		return
	}
	if absent(doc) || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && empty(doc) {
		d.report(d.bad, "", "is missing; expected "+f.describe())
	}
}

// empty reports whether doc is [] or {}.
func empty(doc hostdb.Document) bool {
	_, leaf := doc.Value()
	return leaf && (doc.IsMapping() || doc.Items() != nil && len(doc.Items()) == 0)
}

// describe is what a field takes, with an example.
func (f *field) describe() string {
	text := "a value"
	switch {
	case f.node.scalar != nil && len(f.node.scalar.values) > 0:
		return oneOf(f.node.scalar.values)
	case f.node.scalar != nil:
		text = f.node.scalar.what
	case f.node.typ.Kind() == reflect.Slice:
		text = "a list"
	case f.node.typ.Kind() == reflect.Map:
		text = "a mapping"
	}
	return text + " such as " + f.example
}

// unknown deals with a key that is no field.
func (d *decoder) unknown(key string, doc hostdb.Document, v reflect.Value, l *layout) {
	if d.beside != nil && len(d.path) == 1 && d.beside(key, doc) {
		return
	}
	near := nearest(key, l.keys)
	if l.rest != nil {
		if _, err := l.rest.node.mapKey.parse(key); err == nil {
			d.entry(key, doc, v.Field(l.rest.index), l.rest.node)
			return
		}
		reason := "is not " + l.rest.node.mapKey.what
		if near != "" {
			reason += "; did you mean " + near + "?"
		} else {
			reason += "; expected " + strings.Join(l.keys, ", ") + " or one of the others that the manual names"
		}
		d.report(d.bad, "", reason)
		return
	}
	open := d.free || len(d.path) == 1 // beside sections and facts a site keeps what it likes
	switch {
	case near != "" && open:
		d.report(Warning, "", "is not known and does nothing; did you mean "+near+"?")
	case near != "":
		d.report(d.bad, "", "is not known; did you mean "+near+"?")
	case !open:
		d.report(Warning, "", "is not known and does nothing; known are "+strings.Join(l.keys, ", "))
	}
}

// value reads what is there into v. It reports whether v was set.
func (d *decoder) value(doc hostdb.Document, v reflect.Value, n *node) bool {
	switch {
	case n.free:
		if n.mapping && !absent(doc) && !doc.IsMapping() {
			d.wrongShape(doc, "a mapping", "one such as {}")
			return false
		}
		v.Set(reflect.ValueOf(doc))
		return true
	case n.scalar != nil:
		return d.scalar(doc, v, n)
	case n.fields != nil && n.typ.Kind() == reflect.Pointer:
		p := reflect.New(n.typ.Elem())
		p.Elem().Set(n.fields.zero)
		if !d.structure(doc, p.Elem(), n.fields) {
			return false
		}
		v.Set(p)
		return true
	case n.fields != nil:
		return d.structure(doc, v, n.fields)
	case n.mapKey != nil:
		if !doc.IsMapping() {
			d.wrongShape(doc, "a mapping", "one such as "+n.sample)
			return false
		}
		for key, sub := range doc.Keys() {
			d.at(key, func() { d.entry(key, sub, v, n) })
		}
		return true
	}
	return d.list(doc, v, n)
}

// scalar reads one scalar.
func (d *decoder) scalar(doc hostdb.Document, v reflect.Value, n *node) bool {
	text, ok := scalarText(doc)
	if !ok {
		what, expect := n.scalar.what, "one such as "+n.sample
		if len(n.scalar.values) > 0 {
			what, expect = "a single value", oneOf(n.scalar.values)
		}
		d.wrongShape(doc, what, expect)
		return false
	}
	parsed, err := n.scalar.parse(text)
	if err != nil {
		d.report(d.bad, text, n.scalar.refuse(text, n.sample, err))
		return false
	}
	v.Set(reflect.ValueOf(parsed).Convert(n.typ))
	return true
}

func scalarText(doc hostdb.Document) (text string, ok bool) {
	v, leaf := doc.Value()
	return strings.TrimSpace(v.Scalar()), leaf && v.IsScalar()
}

// entry reads one entry of a map; one that cannot be read is left out.
func (d *decoder) entry(key string, doc hostdb.Document, m reflect.Value, n *node) {
	k, err := n.mapKey.parse(key)
	if err != nil {
		d.report(d.bad, "", strconv.Quote(short(key))+" "+n.mapKey.refuse(key, n.keyHint, err))
		return
	}
	v := reflect.New(n.elem.typ).Elem()
	if n.elem.fields != nil {
		v.Set(n.elem.fields.zero)
	}
	if absent(doc) && n.elem.scalar != nil || !d.value(doc, v, n.elem) {
		return
	}
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	m.SetMapIndex(reflect.ValueOf(k).Convert(m.Type().Key()), v)
}

// list reads a sequence, or one value as a list of one. Items that cannot be read are left out.
func (d *decoder) list(doc hostdb.Document, v reflect.Value, n *node) bool {
	items := doc.Items()
	if items == nil {
		text, ok := scalarText(doc)
		if !ok {
			d.wrongShape(doc, "a list", "one such as "+n.sample)
			return false
		}
		items = []hostdb.Document{doc}
		if s, ok := v.Interface().(splitter); ok {
			items = items[:0]
			for _, part := range s.split(text) {
				items = append(items, hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(part)}))
			}
		}
	}
	list := reflect.MakeSlice(n.typ, 0, len(items))
	for _, item := range items {
		e := reflect.New(n.elem.typ).Elem()
		if absent(item) || !d.value(item, e, n.elem) {
			continue
		}
		list = reflect.Append(list, e)
	}
	v.Set(list)
	return true
}

// wrongShape notes a scalar, list or mapping where something else belongs.
func (d *decoder) wrongShape(doc hostdb.Document, what, expect string) {
	text, ok := scalarText(doc)
	reason := "is not " + what
	switch {
	case ok:
	case doc.IsMapping():
		reason = "is a mapping, not " + what
	default:
		reason = "is a list, not " + what
	}
	d.report(d.bad, text, reason+"; expected "+expect)
}
