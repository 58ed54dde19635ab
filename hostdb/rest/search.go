package rest

import (
	"fmt"
	"math/bits"
	"regexp"
	"regexp/syntax"
	"strings"
)

// The bounds of search. Matching takes time in proportion to the size of the expression and of the text; counted
// repetitions make a short expression large.
const (
	maxSearch     = 1000    // bytes of the expression
	maxSearchSize = 2000    // its size with repetitions written out
	maxSearchWork = 1 << 29 // its size times the bytes of the answer: a few seconds at the worst, of an expression made for it
)

// matching are the lines of text that an expression matches, without a newline at the end, and of items, which may be
// nil, those that belong to them.
func matching(text, expr string, items []any) (string, []any, error) {
	if len(expr) > maxSearch {
		return "", nil, fail(codeInvalid, fmt.Sprintf("Bad search: %d bytes, at most %d are allowed", len(expr), maxSearch))
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", nil, fail(codeInvalid, "Bad search: "+err.Error())
	}
	size := sizeOf(parsed)
	if size > maxSearchSize || size*len(text) > maxSearchWork {
		return "", nil, fail(codeInvalid, fmt.Sprintf("Bad search: too large for an answer of %d bytes; make it simpler, with smaller {counts}", len(text)))
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return "", nil, fail(codeInvalid, "Bad search: "+err.Error())
	}
	if text == "" {
		return "", items, nil
	}
	var out []string
	var kept []any
	i := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if re.MatchString(line) {
			out = append(out, line)
			if i < len(items) {
				kept = append(kept, items[i])
			}
		}
		i++
	}
	if items != nil && kept == nil {
		kept = []any{}
	}
	return strings.Join(out, "\n"), kept, nil
}

// sizeOf is about the number of instructions that an expression compiles to.
func sizeOf(re *syntax.Regexp) int {
	size := 1
	switch re.Op {
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpCharClass:
		size += bits.Len(uint(len(re.Rune))) // its ranges are searched by halves
	}
	for _, sub := range re.Sub {
		size += sizeOf(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(1, re.Min, re.Max)
	}
	return min(size, 1<<20) // more than is allowed anyhow; products of it fit an int
}
