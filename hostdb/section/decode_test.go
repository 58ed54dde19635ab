package section

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

// FuzzRead: no document makes a reader panic, and reading the same twice tells the same.
func FuzzRead(f *testing.F) {
	for _, d := range Schema() {
		f.Add(d.yaml())
	}
	for _, ns := range []string{"hosts", "tags"} {
		text, err := os.ReadFile(filepath.Join("testdata", ns+".txt"))
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if doc, isDoc := strings.CutPrefix(line, "- "); isDoc {
				f.Add(doc)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			return
		}
		for _, ns := range []string{hostdb.Hosts, hostdb.Tags} {
			first := Check(ns, doc)
			if again := Check(ns, doc); !cmp.Equal(first, again) {
				t.Errorf("%v, then %v", first, again)
			}
			warnings, err := Validator{}.Validate(ns, "key", hostdb.Document{}, doc)
			if err != nil && (!errors.Is(err, hostdb.ErrInvalid) || strings.ContainsAny(err.Error(), "\n\r")) {
				t.Errorf("error %q", err)
			}
			if _, err := (Validator{}).Validate(ns, "key", doc, doc); err != nil {
				t.Errorf("what was wrong before is refused: %v", err)
			}
			if ns == hostdb.Hosts && err != nil {
				t.Errorf("a host fact is refused: %v", err)
			}
			for _, w := range warnings {
				if !strings.HasPrefix(w, ns+"/key: ") {
					t.Errorf("warning %q", w)
				}
			}
		}
		tag, _ := TagOf(doc)
		if dns, _ := DNSOf(doc); doc.IsMapping() && !reflect.DeepEqual(dns, tag.DNS) {
			t.Errorf("DNS alone is %+v, in its tag %+v", dns, tag.DNS)
		}
		combine("h", []part{{Source{ID: "hosts/h", Rank: Own}, doc}, {Source{ID: "tags/t"}, doc}}).Sections()
	})
}

// writeValue is a value as YAML has it: what reads back as it.
func writeValue(v reflect.Value, n *node) any {
	switch {
	case n.free:
		return v.Interface().(hostdb.Document).Any()
	case n.scalar != nil:
		return n.scalar.format(v.Interface())
	case v.Kind() == reflect.Pointer:
		return writeStruct(v.Elem(), n.fields)
	case n.fields != nil:
		return writeStruct(v, n.fields)
	case n.mapKey != nil:
		m := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			m[n.mapKey.format(it.Key().Interface())] = writeValue(it.Value(), n.elem)
		}
		return m
	}
	list := []any{}
	for i := range v.Len() {
		list = append(list, writeValue(v.Index(i), n.elem))
	}
	return list
}

func writeStruct(v reflect.Value, l *layout) map[string]any {
	m := map[string]any{}
	for _, f := range l.fields {
		if fv := v.Field(f.index); !fv.IsZero() || !l.zero.Field(f.index).IsZero() {
			m[f.key] = writeValue(fv, f.node)
		}
	}
	if l.rest != nil {
		for k, sub := range writeValue(v.Field(l.rest.index), l.rest.node).(map[string]any) {
			m[k] = sub
		}
	}
	return m
}

// yaml writes the values of writeValue in flow style, every text quoted.
func yaml(v any) string {
	var parts []string
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			parts = append(parts, strconv.Quote(k)+": "+yaml(sub))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, sub := range v {
			parts = append(parts, yaml(sub))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return strconv.Quote(fmt.Sprint(v))
}

// TestDefaultsReadBack: a struct with nothing but defaults is what an empty mapping is read as, and what is read of the
// defaults when they are written out.
func TestDefaultsReadBack(t *testing.T) {
	for _, l := range layouts() {
		for _, text := range []string{"{}", yaml(writeStruct(l.zero, l))} {
			d := decoder{bad: Error, path: []string{l.typ.Name()}}
			v := reflect.New(l.typ).Elem()
			v.Set(l.zero)
			d.structure(parse(t, text), v, l)
			for _, p := range d.problems {
				if !strings.Contains(p.Reason, "is missing") {
					t.Errorf("%s: %s: %s", l.typ.Name(), text, p)
				}
			}
			if diff := cmp.Diff(l.zero.Interface(), v.Interface(), equalValues); diff != "" {
				t.Errorf("%s from %s (-default +read):\n%s", l.typ.Name(), text, diff)
			}
		}
	}
}

// TestValuesReadBack: whatever a scalar is read as, it is read as the same when it is written out.
func TestValuesReadBack(t *testing.T) {
	kinds := map[string]*kind{}
	samples := map[string][]string{}
	var walk func(n *node)
	walk = func(n *node) {
		if n.scalar != nil {
			kinds[n.scalar.name] = n.scalar
			samples[n.scalar.name] = append(samples[n.scalar.name], n.sample)
		}
		if n.elem != nil {
			walk(n.elem)
		}
		if n.mapKey != nil {
			kinds[n.mapKey.name] = n.mapKey
			samples[n.mapKey.name] = append(samples[n.mapKey.name], n.keyHint)
		}
	}
	for _, l := range layouts() {
		for _, f := range append(l.fields, rests(l)...) {
			walk(f.node)
		}
	}
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			read := 0
			rapid.Check(t, func(rt *rapid.T) {
				// A sample with a few letters changed is often still good.
				text := []byte(rapid.SampledFrom(samples[name]).Draw(rt, "sample"))
				for range rapid.IntRange(0, 3).Draw(rt, "changes") {
					if len(text) == 0 {
						break
					}
					at := rapid.IntRange(0, len(text)-1).Draw(rt, "at")
					switch c := rapid.SampledFrom([]byte("0123456789abcdhmswGKTiB%.:-/@ ")).Draw(rt, "letter"); rapid.IntRange(0, 2).Draw(rt, "how") {
					case 0:
						text[at] = c
					case 1:
						text = append(text[:at], text[at+1:]...)
					default:
						text = append(text, c)
					}
				}
				v, err := k.parse(string(text))
				if err != nil {
					if reason := k.refuse(string(text), "x", err); reason == "" {
						rt.Fatalf("%q is refused without a reason", text)
					}
					return
				}
				read++
				if name == "day or instant" {
					return // the end of a day is written as an instant
				}
				again, err := k.parse(k.format(v))
				if err != nil || !reflect.DeepEqual(v, again) {
					rt.Fatalf("%q is read as %v, written as %q, read as %v (%v)", text, v, k.format(v), again, err)
				}
			})
			if read == 0 {
				t.Error("nothing could be read")
			}
		})
	}
}

func TestNearest(t *testing.T) {
	known := []string{"DNS", "Subnet", "LB", "MySQL", "Records"}
	for key, want := range map[string]string{
		"dns": "DNS", "DSN": "DNS", "Subnets": "Subnet", "Sbunet": "Subnet", "lb": "LB", "MQ": "", "DB": "", "MySql": "MySQL",
		"Record": "Records", "Recrods": "Records", "Rcrds": "Records", "Rds": "", "Rack": "", "": "",
	} {
		if got := nearest(key, known); got != want {
			t.Errorf("nearest of %q is %q, not %q", key, got, want)
		}
	}
}
