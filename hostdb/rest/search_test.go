package rest

import (
	"strings"
	"testing"
)

// An expression that would take for ever is refused before it is tried; what people write is not.
func TestSearchIsBounded(t *testing.T) {
	text := strings.Repeat("web1.dc1.example.com\n", 10_000)
	for _, c := range []struct {
		expr string
		ok   bool
	}{
		{"^web[12]", true},
		{`(?i)(web|db|mail)\d{1,3}\.dc[12]\.example\.(com|org)$`, true},
		{`\pL+\d`, true},
		{strings.Repeat("x", maxSearch), true},
		{strings.Repeat("x", maxSearch+1), false},
		{"(a?a?a?a?a?){1000}", false},
		{"((((a?){10}){10}){10}){10}", false},
		{"a{1001}", false},
		{"(", false},
		{`(?=x)`, false},
		{`\`, false},
	} {
		_, _, err := matching(text, c.expr, nil)
		if (err == nil) != c.ok {
			t.Errorf("%.40q: %v", c.expr, err)
		}
		if f, foreseen := asFailure(err); err != nil && (!foreseen || f.code != codeInvalid) {
			t.Errorf("%.40q is %v", c.expr, f)
		}
	}
	if _, _, err := matching(strings.Repeat(text, 100), strings.Repeat("(a|b)", 100), nil); err == nil {
		t.Error("a large expression is taken for a large answer")
	}
}
