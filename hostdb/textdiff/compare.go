package textdiff

import "slices"

const (
	// maxEdits bounds the search for the shortest difference of a part without unique lines: its memory grows with the
	// square. A part that differs by more is shown as replaced.
	maxEdits = 1000
	// maxDepth bounds how often a part is cut at its unique lines.
	maxDepth = 32
)

// compare matches lines: first those that both texts have once, as patience diff does, because they are what people see
// as the same; between them the shortest difference (Myers 1986).
func compare(a, b []string) *difference {
	d := &difference{a: a, b: b, match: make([]int, len(a))}
	for i := range d.match {
		d.match[i] = -1
	}
	// Lines as numbers are compared faster.
	numbers := make(map[string]int, len(a))
	number := func(lines []string) []int {
		out := make([]int, len(lines))
		for i, line := range lines {
			n, ok := numbers[line]
			if !ok {
				n = len(numbers)
				numbers[line] = n
			}
			out[i] = n
		}
		return out
	}
	m := matcher{a: number(a), b: number(b), match: d.match}
	m.part(hunk{0, len(a), 0, len(b)}, 0)
	return d
}

type matcher struct {
	a, b  []int
	match []int
}

// part matches the lines of one part of the texts.
func (m *matcher) part(p hunk, depth int) {
	for p.a0 < p.a1 && p.b0 < p.b1 && m.a[p.a0] == m.b[p.b0] {
		m.match[p.a0] = p.b0
		p.a0, p.b0 = p.a0+1, p.b0+1
	}
	for p.a0 < p.a1 && p.b0 < p.b1 && m.a[p.a1-1] == m.b[p.b1-1] {
		p.a1, p.b1 = p.a1-1, p.b1-1
		m.match[p.a1] = p.b1
	}
	if p.a0 == p.a1 || p.b0 == p.b1 {
		return
	}
	anchors := m.anchors(p)
	if len(anchors) == 0 || depth == maxDepth {
		m.shortest(p)
		return
	}
	from := hunk{a0: p.a0, b0: p.b0}
	for _, x := range anchors {
		m.match[x.a] = x.b
		m.part(hunk{from.a0, x.a, from.b0, x.b}, depth+1)
		from.a0, from.b0 = x.a+1, x.b+1
	}
	m.part(hunk{from.a0, p.a1, from.b0, p.b1}, depth+1)
}

// pair is a line of a and a line of b with the same text.
type pair struct{ a, b int }

// anchors are lines that stand once in both sides of a part: of those, as many as stand in the same order.
func (m *matcher) anchors(p hunk) []pair {
	type count struct{ inA, inB, atB int }
	seen := map[int]count{}
	for _, line := range m.a[p.a0:p.a1] {
		c := seen[line]
		c.inA++
		seen[line] = c
	}
	for j, line := range m.b[p.b0:p.b1] {
		if c, ok := seen[line]; ok {
			c.inB, c.atB = c.inB+1, p.b0+j
			seen[line] = c
		}
	}
	var unique []pair
	for i, line := range m.a[p.a0:p.a1] {
		if c := seen[line]; c.inA == 1 && c.inB == 1 {
			unique = append(unique, pair{p.a0 + i, c.atB})
		}
	}
	return longestRise(unique)
}

// longestRise is a longest subsequence of pairs whose b grows; their a grows already.
func longestRise(list []pair) []pair {
	var tails []int // tails[k] ends the best subsequence of length k+1
	prev := make([]int, len(list))
	for i, x := range list {
		k, _ := slices.BinarySearchFunc(tails, x.b, func(t, b int) int { return list[t].b - b })
		prev[i] = -1
		if k > 0 {
			prev[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	out := make([]pair, len(tails))
	if len(tails) == 0 {
		return out
	}
	for k, i := len(tails)-1, tails[len(tails)-1]; k >= 0; k, i = k-1, prev[i] {
		out[k] = list[i]
	}
	return out
}

// shortest matches a part by the greedy algorithm of Myers. A part that needs more than maxEdits is left unmatched.
func (m *matcher) shortest(p hunk) {
	a, b := m.a[p.a0:p.a1], m.b[p.b0:p.b1]
	limit := min(len(a)+len(b), maxEdits)
	reach := make([]int, 2*limit+3) // the furthest line of a on each diagonal, by its number + limit + 1
	at := func(k int) *int { return &reach[k+limit+1] }
	var trace [][]int // reach before each number of edits, diagonals -edits..edits
	for edits := 0; edits <= limit; edits++ {
		trace = append(trace, slices.Clone(reach[limit+1-edits-1:limit+1+edits+2]))
		for k := -edits; k <= edits; k += 2 {
			x := *at(k - 1) + 1
			if k == -edits || k != edits && *at(k - 1) < *at(k + 1) {
				x = *at(k + 1)
			}
			for x < len(a) && x-k < len(b) && x-k >= 0 && a[x] == b[x-k] {
				x++
			}
			*at(k) = x
			if x >= len(a) && x-k >= len(b) {
				m.follow(p, trace, k)
				return
			}
		}
	}
}

// follow goes back the way that shortest found and notes the lines that are the same.
func (m *matcher) follow(p hunk, trace [][]int, k int) {
	x := p.a1 - p.a0
	for edits := len(trace) - 1; edits >= 0; edits-- {
		at := func(k int) int { return trace[edits][k+edits+1] }
		from, start := k-1, 0
		if edits > 0 {
			if k == -edits || k != edits && at(k-1) < at(k+1) {
				from = k + 1
				start = at(from)
			} else {
				start = at(from) + 1
			}
		}
		for x > start {
			x--
			m.match[p.a0+x] = p.b0 + x - k
		}
		if edits > 0 {
			x, k = at(from), from
		}
	}
}
