package query_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb/query"
)

// TestDocs runs every example of docs/query.md on examples/inventory: the table's rows name the question, the
// expression, and how many there are.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/query.md")
	if err != nil {
		t.Fatal(err)
	}
	v := inventory(t)
	n := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "|") || len(cells) != 4 || !strings.HasPrefix(strings.TrimSpace(cells[2]), "`") {
			continue
		}
		n++
		ns, where, count := strings.TrimSpace(cells[1]), strings.Trim(strings.TrimSpace(cells[2]), "`"), strings.TrimSpace(cells[3])
		where = strings.ReplaceAll(where, `\|`, "|")
		r := run(t, v, where, query.Options{In: ns})
		if fmt.Sprint(r.Matched) != count || len(r.Warnings) > 0 {
			t.Errorf("%s gives %d, the page says %s %q", where, r.Matched, count, r.Warnings)
		}
	}
	if n < 15 {
		t.Errorf("only %d examples are found", n)
	}
	for _, f := range query.Functions() {
		if !strings.Contains(string(page), "`"+f+"(") {
			t.Errorf("the page does not tell of %s", f)
		}
	}
	for _, ns := range []string{"hosts", "tags", "vips"} {
		for _, name := range query.Variables(ns) {
			if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("the page does not tell of %s in %s", name, ns)
			}
		}
	}
}

func TestSlicesOfFormsAreCopies(t *testing.T) {
	query.Forms()[0] = "x"
	if !slices.Contains(query.Forms(), "table") {
		t.Error("a caller changed the forms")
	}
}
