package query

import (
	"slices"
	"strings"
	"unicode/utf8"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// defaultSelect are the columns when none are named.
func defaultSelect(ns string) string {
	switch ns {
	case hostdb.Hosts:
		return "name,address,Status"
	case hostdb.Tags:
		return "name,hosts,sections"
	}
	return "name,hosts"
}

// parseSelect reads columns: PATH or NAME=EXPRESSION, divided by commas outside of brackets and quotes.
func parseSelect(text, ns string) ([]column, error) {
	if strings.TrimSpace(text) == "" {
		text = defaultSelect(ns)
	}
	whole := &program{part: "select", text: text}
	if len(text) > MaxExpression {
		return nil, whole.errorAt(0, "it has %d bytes: at most %d are read", len(text), MaxExpression)
	}
	var out []column
	for _, span := range splitColumns(text) {
		from := position(utf8.RuneCountInString(text[:span.from]))
		part := text[span.from:span.to]
		from += position(utf8.RuneCountInString(part) - utf8.RuneCountInString(strings.TrimLeft(part, " \t\n")))
		part = strings.TrimSpace(part)
		if part == "" {
			return nil, whole.errorAt(from, "a column is missing between commas")
		}
		c, err := parseColumn(whole, part, from, ns)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o column) bool { return o.name == c.name }) {
			return nil, whole.errorAt(from, "the column %s comes twice: name one of them, as in other=%s", c.name, part)
		}
		if out = append(out, c); len(out) > MaxColumns {
			return nil, whole.errorAt(from, "more than %d columns", MaxColumns)
		}
	}
	return out, nil
}

type span struct{ from, to int }

func splitColumns(text string) []span {
	var out []span
	from, depth := 0, 0
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == '\\' && quote != '`' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		case c == ',' && depth <= 0:
			out = append(out, span{from, i})
			from = i + 1
		}
	}
	return append(out, span{from, len(text)})
}

func parseColumn(whole *program, part string, at position, ns string) (column, error) {
	name, expression, named := strings.Cut(part, "=")
	if named && !strings.HasPrefix(expression, "=") && !strings.ContainsAny(name, `()[]{}"'<>!,`) {
		name = strings.TrimSpace(name)
		if name == "" {
			return column{}, whole.errorAt(at, "a name is missing before =")
		}
		before := utf8.RuneCountInString(part) - utf8.RuneCountInString(expression)
		p, err := compile("select", whole.text, blank(whole.text, int(at)+before)+expression, ns, false)
		return column{name, p}, err
	}
	if strings.ContainsAny(part, `()[]{}"'<>!=`) {
		return column{}, whole.errorAt(at, "give the expression a name, as in x=%s", part)
	}
	// A path may have blanks in it, so it is quoted for the language.
	sep := "."
	if strings.Contains(part, "/") {
		sep = "/"
	}
	var b strings.Builder
	keys := strings.Split(part, sep)
	words := wordsOf(ns)
	first := keys[0]
	switch {
	case words.variables[first] != nil, first == "self", first == "effective" && ns == hostdb.Hosts:
		b.WriteString(first)
	case section.Nearest(first, words.names(nil)) != "" && !slices.Contains(words.keys, first):
		return column{}, whole.errorAt(at, "there is no %s; did you mean %s? (a key of your own is self.%s)", first, section.Nearest(first, words.names(nil)), first)
	default:
		b.WriteString("self[" + quoted(first) + "]")
	}
	for _, key := range keys[1:] {
		if key == "" {
			return column{}, whole.errorAt(at, "the path %s has an empty part", part)
		}
		b.WriteString("[" + quoted(key) + "]")
	}
	p, err := compile("select", b.String(), b.String(), ns, false)
	return column{part, p}, err
}

// blank is as many characters as text has up to at, with its line breaks, so that what follows stands where it did.
func blank(text string, at int) string {
	var b strings.Builder
	for i, r := range []rune(text) {
		switch {
		case i >= at:
			return b.String()
		case r == '\n':
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// quoted is a text as the language writes it.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(s) + `"`
}
