package section

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"hostmesh/hostdb"
)

// Description is one section of a tag, or the facts of a host, for programs and for people.
type Description struct {
	// Name is the section's key. Host facts and Priority, which are keys of the document itself, come as "Host" and "Tag".
	Name string `json:"name"`
	// Namespace is where it stands: hosts or tags.
	Namespace string `json:"namespace"`
	// Combines reports whether it configures members, and so combines over all tags of a host.
	Combines bool `json:"combines,omitempty"`
	// Doc says what it does.
	Doc string `json:"doc"`
	// Example is YAML of what stands below Name, or of a whole document for Host and Tag.
	Example string `json:"example,omitempty"`
	// Fields are in the order in which they are explained.
	Fields []FieldDescription `json:"fields"`
}

// FieldDescription is one key of a section.
type FieldDescription struct {
	// Path is its place below the section, with slashes; * stands for any key.
	Path string `json:"path"`
	// Type is what may stand there, in words.
	Type string `json:"type"`
	// Unit is that of a bare number: seconds, bytes.
	Unit string `json:"unit,omitempty"`
	// Values are all that may stand there; empty when it is not one of a few.
	Values []string `json:"values,omitempty"`
	// Min and Max are the bounds, as they are written.
	Min string `json:"min,omitempty"`
	Max string `json:"max,omitempty"`
	// Required is yes, or combined: once all tags of a host are combined.
	Required string `json:"required,omitempty"`
	// Default is what absence means, where that is a value.
	Default string `json:"default,omitempty"`
	// Example is YAML of one value.
	Example string `json:"example,omitempty"`
	// Doc says what it means.
	Doc string `json:"doc"`
}

// Schema describes all that hostmesh reads in documents: the facts of a host, then Priority, then the sections of a
// tag. It is made of the structs, so it is never behind them.
func Schema() []Description {
	host := layoutFor[Host]()
	facts := Description{Name: "Host", Namespace: hostdb.Hosts, Doc: docs["Host"], Example: Host{}.example()}
	facts.Fields = describe(host, "", facts.Fields)
	tag := layoutFor[Tag]()
	all := []Description{facts, {Name: "Tag", Namespace: hostdb.Tags, Doc: docs["Tag"], Example: "Priority: 20\n"}}
	for _, f := range tag.fields {
		if f.node.fields == nil {
			all[1].Fields = append(all[1].Fields, f.describeIn(tag, ""))
			continue
		}
		d := Description{Name: f.key, Namespace: hostdb.Tags, Combines: f.combine, Doc: docs[f.node.fields.typ.Name()]}
		d.Example = reflect.Zero(f.node.fields.typ).Interface().(interface{ example() string }).example()
		d.Fields = describe(f.node.fields, "", nil)
		all = append(all, d)
	}
	return all
}

// describe appends the fields of l and what stands below them.
func describe(l *layout, prefix string, out []FieldDescription) []FieldDescription {
	fields := l.fields
	if l.rest != nil {
		fields = append(fields[:len(fields):len(fields)], *l.rest)
	}
	for _, f := range fields {
		out = append(out, f.describeIn(l, prefix))
		switch n := f.node; {
		case n.fields != nil:
			out = describe(n.fields, prefix+f.key+"/", out)
		case n.mapKey != nil && n.elem.fields != nil:
			out = describe(n.elem.fields, prefix+f.key+"/*/", out)
		}
	}
	return out
}

func (f *field) describeIn(l *layout, prefix string) FieldDescription {
	d := FieldDescription{Path: prefix + f.key, Required: f.need, Example: f.example, Doc: docs[l.typ.Name()+"."+f.name]}
	n := f.node
	if f.key == "*" {
		n = n.elem // the path says that it is a mapping
	}
	d.Type = n.describe()
	leaf := n
	for leaf.elem != nil {
		leaf = leaf.elem
	}
	if k := leaf.scalar; k != nil {
		d.Unit, d.Values, d.Min, d.Max = k.unit, k.values, k.low, k.high
		for _, v := range k.values {
			if meaning := docs[leaf.typ.Name()+"="+v]; meaning != "" {
				d.Doc += " " + v + ": " + meaning + "."
			}
		}
	}
	if n.scalar != nil {
		v := l.zero.Field(f.index)
		zero := n.scalar.zero(v.Kind()) // may be written, so it is a value like any other
		if f.need == "" && (zero || !v.IsZero()) {
			d.Default = n.scalar.format(v.Interface())
		}
	}
	return d
}

// zero reports whether the zero value of k can be written, and does not stand for absence.
func (k *kind) zero(of reflect.Kind) bool {
	_, err := k.parse("0")
	return of == reflect.Bool || of == reflect.Int && err == nil
}

// describe is what may stand at n, in words.
func (n *node) describe() string {
	switch {
	case n.free && n.mapping:
		return "mapping"
	case n.free:
		return "anything"
	case n.scalar != nil:
		return n.scalar.name
	case n.fields != nil:
		return "mapping"
	case n.mapKey != nil && n.elem.fields != nil:
		return "mappings by " + n.mapKey.name
	case n.mapKey != nil:
		return "mapping: " + n.mapKey.name + " to " + n.elem.describe()
	}
	return "list: " + n.elem.describe()
}

// WriteText writes descriptions for a terminal.
func WriteText(w io.Writer, list []Description) error {
	for i, d := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s (%s)\n%s\n\n", d.Name, d.Namespace, fill(d.Doc, 2))
		fmt.Fprintf(w, "%s\n", indent(d.yaml(), 4))
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, f := range d.Fields {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", f.Path, f.limits(), f.state())
			for line := range strings.SplitSeq(fill(f.Doc, 6), "\n") {
				fmt.Fprintln(t, line)
			}
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("writing the schema: %w", err)
		}
	}
	return nil
}

// Find is the description of a section by its name, or of the host facts below one key of a host's document. The error
// suggests a name; it wraps hostdb.ErrNotFound.
func Find(name string) (Description, error) {
	var known []string
	for _, d := range Schema() {
		known = append(known, d.Name)
		if strings.EqualFold(d.Name, name) {
			return d, nil
		}
		if d.Name != "Host" && d.Name != "Tag" {
			continue
		}
		part := Description{Namespace: d.Namespace, Doc: d.Doc, Example: d.Example}
		for _, f := range d.Fields {
			top, _, deeper := strings.Cut(f.Path, "/")
			if !deeper {
				known = append(known, top)
			}
			if !strings.EqualFold(top, name) {
				continue
			}
			part.Name = d.Name
			part.Fields = append(part.Fields, f)
			if !deeper && f.Doc != "" {
				part.Doc = f.Doc
			}
		}
		if part.Name != "" {
			return part, nil
		}
	}
	hint := "; known are " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		hint = "; did you mean " + near + "?"
	}
	return Description{}, fmt.Errorf("section %q: %w%s", name, hostdb.ErrNotFound, hint)
}

// yaml is the example as it stands in a document.
func (d Description) yaml() string {
	if d.Name == "Host" || d.Name == "Tag" {
		return d.Example
	}
	return d.Name + ":\n" + indent(d.Example, 2)
}

// limits is the type with its bounds.
func (f FieldDescription) limits() string {
	k := kind{low: f.Min, high: f.Max}
	if between := k.between(); between != "" {
		return f.Type + " " + between
	}
	return f.Type
}

// state is whether a field must be there, or what it is when it is not.
func (f FieldDescription) state() string {
	switch {
	case f.Required == "yes":
		return "required"
	case f.Required != "":
		return "required in one of a host's tags"
	case f.Default != "":
		return "default " + f.Default
	}
	return ""
}

func indent(text string, n int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Repeat(" ", n) + line)
	}
	return b.String()
}

// fill breaks text into lines of up to 100 letters, indented by n.
func fill(text string, n int) string {
	var b strings.Builder
	room := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case b.Len() == 0 || room < len(word)+1:
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(strings.Repeat(" ", n))
			room = 100 - n
		default:
			b.WriteByte(' ')
			room--
		}
		b.WriteString(word)
		room -= len(word)
	}
	return b.String()
}
