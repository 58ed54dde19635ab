// Package textdiff shows how two texts differ, line by line, in the form of diff -u.
//
// It owns the comparison alone. What the texts are, where they come from and how the result is shown is its callers'
// business. It imports nothing of ours.
package textdiff

import (
	"fmt"
	"strings"
)

// Context is the number of unchanged lines around a change that people expect.
const Context = 3

// Unified is the difference of two texts in the unified form: a header with the two names, then hunks with so many
// unchanged lines around each change. It is "" when the texts are equal. A last line without a newline is marked as
// diff -u marks it, so patch(1) makes one text of the other exactly. Time and memory are bounded for texts of any kind: in
// parts that have little in common, the shortest difference is not looked for.
func Unified(fromName, toName, from, to string, context int) string {
	if from == to {
		return ""
	}
	d := compare(splitLines(from), splitLines(to))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", fromName, toName)
	for _, h := range d.hunks(max(context, 0)) {
		d.writeHunk(&b, h)
	}
	return b.String()
}

// Count is the number of lines that only the second text has, and of those that only the first has.
func Count(from, to string) (added, removed int) {
	if from == to {
		return 0, 0
	}
	d := compare(splitLines(from), splitLines(to))
	kept := 0
	for _, j := range d.match {
		if j >= 0 {
			kept++
		}
	}
	return len(d.b) - kept, len(d.a) - kept
}

// splitLines cuts a text behind its newlines.
func splitLines(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// difference is what two texts have in common.
type difference struct {
	a, b  []string
	match []int // for each line of a, its line of b, or -1; growing
}

// hunk is a change with what stands around it: lines [a0, a1) of one text, [b0, b1) of the other.
type hunk struct{ a0, a1, b0, b1 int }

// hunks groups the changes that have at most twice the context between them.
func (d *difference) hunks(context int) []hunk {
	var out []hunk
	add := func(a0, a1, b0, b1 int) {
		if n := len(out); n > 0 && a0-out[n-1].a1 <= 2*context {
			out[n-1].a1, out[n-1].b1 = a1, b1
			return
		}
		out = append(out, hunk{a0, a1, b0, b1})
	}
	i, j := 0, 0
	for i < len(d.a) || j < len(d.b) {
		if i < len(d.a) && d.match[i] == j {
			i, j = i+1, j+1
			continue
		}
		i0, j0 := i, j
		for i < len(d.a) && d.match[i] < 0 {
			i++
		}
		j = len(d.b)
		if i < len(d.a) {
			j = d.match[i]
		}
		add(i0, i, j0, j)
	}
	for n := range out {
		h := &out[n]
		before := min(context, h.a0)
		after := min(context, len(d.a)-h.a1)
		h.a0, h.b0, h.a1, h.b1 = h.a0-before, h.b0-before, h.a1+after, h.b1+after
	}
	return out
}

func (d *difference) writeHunk(b *strings.Builder, h hunk) {
	fmt.Fprintf(b, "@@ -%s +%s @@\n", lineRange(h.a0, h.a1), lineRange(h.b0, h.b1))
	i, j := h.a0, h.b0
	for i < h.a1 || j < h.b1 {
		switch {
		case i < h.a1 && d.match[i] < 0:
			writeLine(b, '-', d.a[i])
			i++
		case j < h.b1 && (i == h.a1 || d.match[i] > j):
			writeLine(b, '+', d.b[j])
			j++
		default:
			writeLine(b, ' ', d.a[i])
			i, j = i+1, j+1
		}
	}
}

func writeLine(b *strings.Builder, mark byte, line string) {
	b.WriteByte(mark)
	b.WriteString(line)
	if !strings.HasSuffix(line, "\n") {
		b.WriteString("\n\\ No newline at end of file\n")
	}
}

// lineRange is the lines [from, to) as a hunk's header counts them: from 1, and an empty range by the line before it.
func lineRange(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}
