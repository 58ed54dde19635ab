package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is what a run prints.
type table struct {
	rows  [][]string
	notes []string
}

// row is one figure. Verdict has no budget when met is nil.
type row struct {
	what, measured, budget, peer string
	met                          *bool
}

func (t *table) add(r row) {
	verdict := "-"
	if r.met != nil {
		verdict = "not met"
		if *r.met {
			verdict = "met"
		}
	}
	t.rows = append(t.rows, []string{r.what, r.measured, orDash(r.budget), orDash(r.peer), verdict})
}

// failed is the row of a measurement that could not be made.
func (t *table) failed(name string, err error) {
	t.rows = append(t.rows, []string{name, "-", "-", "-", "not measured"})
	t.note("%s: not measured: %v", name, err)
}

// note is a line below the table: what a reader must know to judge a figure.
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func when(met bool) *bool { return &met }

func (t *table) print(w io.Writer) {
	all := append([][]string{{"what", "measured", "budget", "ratio / peer", "verdict"}}, t.rows...)
	widths := make([]int, len(all[0]))
	for _, cells := range all {
		for i, c := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for n, cells := range all {
		var line strings.Builder
		for i, c := range cells {
			line.WriteString(c)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
		if n == 0 {
			fmt.Fprintln(w, strings.Repeat("-", line.Len()-2))
		}
	}
	for _, n := range t.notes {
		fmt.Fprintf(w, "\n%s\n", n)
	}
}
