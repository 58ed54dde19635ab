package section

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

var update = flag.Bool("update", false, "write the generated files anew")

// current compares a generated file with what it should be.
func current(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("%s is not current (%v): run go test ./hostdb/section -run 'Comments|Manual' -update twice", name, err)
	}
}

// TestComments keeps docs_generated.go equal to the comments of the structs and constants.
func TestComments(t *testing.T) {
	found := map[string]string{}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_generated.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				comments(g, found)
			}
		}
	}
	wanted := map[string]bool{}
	for _, l := range layouts() {
		wanted[l.typ.Name()] = true
		for i := range l.typ.NumField() {
			f := l.typ.Field(i)
			id := l.typ.Name() + "." + f.Name
			wanted[id] = true
			if found[id] == "" {
				t.Errorf("%s has no comment", id)
			}
			if e, ok := reflect.Zero(f.Type).Interface().(enumeration); ok {
				for _, v := range e.values() {
					wanted[f.Type.Name()+"="+v] = true
				}
			}
		}
	}
	var b bytes.Buffer
	b.WriteString("// Code generated from the comments of this package by go test -run Comments -update. DO NOT EDIT.\n\npackage section\n\n")
	b.WriteString("// docs are the comments of structs, fields and constants that the manual shows.\nvar docs = map[string]string{\n")
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if wanted[id] {
			fmt.Fprintf(&b, "%q: %q,\n", id, found[id])
		}
	}
	b.WriteString("}\n")
	src, err := format.Source(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	current(t, "docs_generated.go", src)
}

func comments(g *ast.GenDecl, found map[string]string) {
	text := func(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
	for _, spec := range g.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			st, ok := s.Type.(*ast.StructType)
			if !ok {
				continue
			}
			found[s.Name.Name] = text(g.Doc)
			for _, f := range st.Fields.List {
				for _, n := range f.Names {
					found[s.Name.Name+"."+n.Name] = text(f.Doc)
				}
			}
		case *ast.ValueSpec:
			typ, ok := s.Type.(*ast.Ident)
			if !ok || len(s.Values) != 1 || s.Comment == nil {
				continue
			}
			if lit, ok := s.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				v, _ := strconv.Unquote(lit.Value)
				found[typ.Name+"="+v] = text(s.Comment)
			}
		}
	}
}

// TestManual keeps docs/sections.md equal to the schema.
func TestManual(t *testing.T) {
	var b bytes.Buffer
	if err := WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	current(t, filepath.Join("..", "..", "docs", "sections.md"), b.Bytes())
}

// TestExamples reads every example of the manual, whole ones and those of single fields.
func TestExamples(t *testing.T) {
	for _, d := range Schema() {
		doc := parse(t, d.yaml())
		var read any
		var problems []Problem
		if d.Namespace == hostdb.Hosts {
			read, problems = HostOf(doc)
		} else {
			read, problems = TagOf(doc)
		}
		for _, p := range problems {
			t.Errorf("example of %s: %s", d.Name, p)
		}
		if reflect.ValueOf(read).IsZero() {
			t.Errorf("example of %s says nothing", d.Name)
		}
	}
	for _, l := range layouts() {
		for _, f := range append(l.fields, rests(l)...) {
			id := l.typ.Name() + "." + f.name
			if f.example == "" {
				if f.node.fields == nil && (f.node.elem == nil || f.node.elem.fields == nil) {
					t.Errorf("%s has no example", id)
				}
				continue
			}
			dec := decoder{bad: Error}
			v := reflect.New(f.node.typ).Elem()
			if !dec.value(parse(t, f.example), v, f.node) || len(dec.problems) > 0 {
				t.Errorf("example %s of %s cannot be read: %v", f.example, id, dec.problems)
			}
			if f.node.scalar != nil && f.node.scalar.format != nil && reflect.DeepEqual(v.Interface(), l.zero.Field(f.index).Interface()) &&
				len(f.node.scalar.values) > 1 {
				t.Errorf("example %s of %s is the default: show another", f.example, id)
			}
		}
	}
}

func rests(l *layout) []field {
	if l.rest == nil {
		return nil
	}
	return []field{*l.rest}
}

func parse(t testing.TB, text string) hostdb.Document {
	t.Helper()
	doc, err := hostdb.ParseDocument([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return doc
}
