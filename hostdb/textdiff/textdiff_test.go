package textdiff

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func TestUnified(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		context        int
		want           string
	}{
		{"equal", "a\nb\n", "a\nb\n", 3, ""},
		{"one line of many", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n", 3,
			"--- x\n+++ y\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"},
		{"no context", "1\n2\n3\n", "1\nzwei\n3\n", 0, "--- x\n+++ y\n@@ -2 +2 @@\n-2\n+zwei\n"},
		{"from nothing", "", "a\nb\n", 3, "--- x\n+++ y\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"to nothing", "a\n", "", 3, "--- x\n+++ y\n@@ -1 +0,0 @@\n-a\n"},
		{"insertion without context", "a\nb\n", "a\nx\nb\n", 0, "--- x\n+++ y\n@@ -1,0 +2 @@\n+x\n"},
		{"the last line gets a newline", "a\nb", "a\nb\n", 1, "--- x\n+++ y\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"},
		{"neither ends in a newline", "a\nb", "c\nb", 1, "--- x\n+++ y\n@@ -1,2 +1,2 @@\n-a\n+c\n b\n\\ No newline at end of file\n"},
		{"far changes are two hunks", "1\n2\n3\n4\n5\n6\n", "one\n2\n3\n4\n5\nsix\n", 1,
			"--- x\n+++ y\n@@ -1,2 +1,2 @@\n-1\n+one\n 2\n@@ -5,2 +5,2 @@\n 5\n-6\n+six\n"},
		{"near changes are one", "1\n2\n3\n4\n", "one\n2\n3\nfour\n", 1, "--- x\n+++ y\n@@ -1,4 +1,4 @@\n-1\n+one\n 2\n 3\n-4\n+four\n"},
		{"what moved is taken out and put in", "a\nb\nc\n", "b\nc\na\n", 3, "--- x\n+++ y\n@@ -1,3 +1,3 @@\n-a\n b\n c\n+a\n"},
		{"lines that repeat", "x\nx\na\nx\n", "x\na\nx\nx\n", 3, "--- x\n+++ y\n@@ -1,4 +1,4 @@\n x\n-x\n a\n+x\n x\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Unified("x", "y", c.from, c.to, c.context); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// patch does what patch(1) does.
func patch(t *testing.T, text, diff string) string {
	t.Helper()
	lines := splitLines(text)
	var out strings.Builder
	at := 0
	last := ""
	for n, line := range splitLines(diff) {
		switch {
		case n < 2:
		case line[0] == '@':
			start, count, _ := strings.Cut(strings.Fields(line)[1][1:], ",")
			from, err := strconv.Atoi(start)
			if err != nil {
				t.Fatal(err)
			}
			if count != "0" {
				from--
			}
			for ; at < from; at++ {
				out.WriteString(lines[at])
			}
		case line[0] == '\\':
			if last != "-" {
				s := strings.TrimSuffix(out.String(), "\n")
				out.Reset()
				out.WriteString(s)
			}
		case line[0] == '+':
			out.WriteString(line[1:])
		default:
			if strings.TrimSuffix(lines[at], "\n") != strings.TrimSuffix(line[1:], "\n") {
				t.Fatalf("line %d is %q, the difference says %q", at, lines[at], line[1:])
			}
			if line[0] == ' ' {
				out.WriteString(line[1:])
			}
			at++
		}
		last = line[:1]
	}
	for ; at < len(lines); at++ {
		out.WriteString(lines[at])
	}
	return out.String()
}

// TestPatch: a difference makes one text of the other, whatever they are.
func TestPatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		words := 1 + rng.IntN(12)
		some := func() string {
			var b strings.Builder
			for range rng.IntN(30) {
				fmt.Fprintf(&b, "%d\n", rng.IntN(words))
			}
			if text := b.String(); rng.IntN(4) == 0 {
				return strings.TrimSuffix(text, "\n")
			}
			return b.String()
		}
		from, to := some(), some()
		context := rng.IntN(4)
		diff := Unified("x", "y", from, to, context)
		if (diff == "") != (from == to) {
			t.Fatalf("%q to %q: %q", from, to, diff)
		}
		if diff != "" && patch(t, from, diff) != to {
			t.Fatalf("context %d: %q becomes %q, not %q, by\n%s", context, from, patch(t, from, diff), to, diff)
		}
		added, removed := Count(from, to)
		if got := len(splitLines(from)) - removed + added; got != len(splitLines(to)) {
			t.Fatalf("%q to %q: %d added, %d removed", from, to, added, removed)
		}
	}
}

// TestShortest: without unique lines the difference is a shortest one.
func TestShortest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		some := func() []string {
			out := make([]string, rng.IntN(14))
			for i := range out {
				out[i] = string(rune('a' + rng.IntN(2)))
			}
			return append(out, out...) // no line stands once
		}
		a, b := some(), some()
		common := make([][]int, len(a)+1)
		for i := range common {
			common[i] = make([]int, len(b)+1)
		}
		for i := range a {
			for j := range b {
				common[i+1][j+1] = max(common[i][j+1], common[i+1][j])
				if a[i] == b[j] {
					common[i+1][j+1] = common[i][j] + 1
				}
			}
		}
		m := matcher{match: make([]int, len(a))}
		for i, s := range a {
			m.a, m.match[i] = append(m.a, int(s[0])), -1
		}
		for _, s := range b {
			m.b = append(m.b, int(s[0]))
		}
		m.shortest(hunk{0, len(a), 0, len(b)})
		got, last := 0, -1
		for i, j := range m.match {
			if j < 0 {
				continue
			}
			if j <= last || a[i] != b[j] {
				t.Fatalf("%q and %q are matched as %v", a, b, m.match)
			}
			got, last = got+1, j
		}
		if got != common[len(a)][len(b)] {
			t.Fatalf("%q and %q have %d lines in common, found are %d", a, b, common[len(a)][len(b)], got)
		}
	}
}

// TestLarge: texts that have nothing, or only repeated lines, in common are compared within the bounds.
func TestLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	some := func(words int) string {
		var b strings.Builder
		for range 50_000 {
			fmt.Fprintf(&b, "%d\n", rng.IntN(words))
		}
		return b.String()
	}
	for _, words := range []int{2, 300, 1 << 30} {
		from, to := some(words), some(words)
		if diff := Unified("x", "y", from, to, 3); patch(t, from, diff) != to {
			t.Errorf("%d words: the difference does not make one text of the other", words)
		}
	}
}

func FuzzUnified(f *testing.F) {
	f.Add("a\nb\nc", "a\nc\n", 1)
	f.Add("", "x", 0)
	f.Fuzz(func(t *testing.T, from, to string, context int) {
		diff := Unified("x", "y", from, to, context&7)
		if diff == "" {
			if from != to {
				t.Fatal("no difference")
			}
			return
		}
		if got := patch(t, from, diff); got != to {
			t.Fatalf("%q becomes %q, not %q, by\n%s", from, got, to, diff)
		}
	})
}
