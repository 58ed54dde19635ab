package hostdb

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// writer makes canonical YAML: block style, two blanks a level, sorted keys, the writer's spelling of scalars.
type writer struct{ b []byte }

// couldExceed reports whether d's YAML might be longer than limit, without writing it. A byte takes ten at most, when
// it is escaped; each step of a path and each item of a sequence takes a line with its indentation.
func (d Document) couldExceed(limit int) bool {
	bound := 0
	for _, l := range d.leaves {
		each := 10
		if !l.Value.IsScalar() {
			each += 2 * MaxDepth
		}
		bound += 10*len(l.Path) + each*len(l.Value) + 4*MaxDepth
		if bound > limit {
			return true
		}
	}
	return false
}

func (w *writer) indent(n int) {
	for range n {
		w.b = append(w.b, "  "...)
	}
}

// mapping writes sorted leaves that all lie below one point; cut is the length of that point's path with its NUL.
func (w *writer) mapping(leaves []Leaf, cut, level int) {
	for i := 0; i < len(leaves); {
		rest := string(leaves[i].Path[cut:])
		key, _, deeper := strings.Cut(rest, "\x00")
		w.indent(level)
		w.key(key)
		if !deeper {
			w.after(leaves[i].Value, level)
			i++
			continue
		}
		j := i + 1
		prefix := leaves[i].Path[:cut+len(key)+1]
		for j < len(leaves) && strings.HasPrefix(string(leaves[j].Path), string(prefix)) {
			j++
		}
		w.b = append(w.b, '\n')
		w.mapping(leaves[i:j], len(prefix), level+1)
		i = j
	}
}

// key writes a mapping key with its colon.
func (w *writer) key(k string) {
	if plainSafe(k) && !strings.HasPrefix(k, "<<") {
		w.b = append(w.b, k...)
	} else {
		w.quoted(k)
	}
	w.b = append(w.b, ':')
}

// after writes v behind a key whose mapping stands at level, up to the end of its last line.
func (w *writer) after(v Value, level int) {
	switch {
	case v.IsScalar():
		w.b = append(w.b, ' ')
		w.scalar(v, level+1)
		w.b = append(w.b, '\n')
	case v == "l":
		w.b = append(w.b, " []\n"...)
	case v == emptyMapping || !v.valid(0):
		w.b = append(w.b, " {}\n"...)
	default:
		w.b = append(w.b, '\n')
		w.block(v, level+1, false)
	}
}

// block writes a sequence or mapping that is not empty at level; inline means its first line is begun already.
func (w *writer) block(v Value, level int, inline bool) {
	first := inline
	v.parts(func(key string, item Value) bool {
		if !first {
			w.indent(level)
		}
		first = false
		if v[0] == 'm' {
			w.key(key)
			w.after(item, level)
			return true
		}
		w.b = append(w.b, "- "...)
		switch {
		case item.IsScalar():
			w.scalar(item, level+1)
			w.b = append(w.b, '\n')
		case item == "l":
			w.b = append(w.b, "[]\n"...)
		case item == emptyMapping:
			w.b = append(w.b, "{}\n"...)
		default:
			w.block(item, level+1, true)
		}
		return true
	})
}

// scalar writes a scalar without the newline that ends it; level is that of a block scalar's text.
func (w *writer) scalar(v Value, level int) {
	text := string(v[1:])
	switch {
	case v[0] == 'p' && ambiguous(text):
		w.b = append(w.b, text...)
	case v[0] == 's' && ambiguous(text):
		w.b = append(w.b, '\'')
		w.b = append(w.b, text...)
		w.b = append(w.b, '\'')
	case plainSafe(text):
		w.b = append(w.b, text...)
	case literalSafe(text):
		w.literal(text, level)
	default:
		w.quoted(text)
	}
}

func (w *writer) literal(text string, level int) {
	head := "|-"
	if body, ok := strings.CutSuffix(text, "\n"); ok {
		head, text = "|", body
	}
	w.b = append(w.b, head...)
	for line := range strings.SplitSeq(text, "\n") {
		w.b = append(w.b, '\n')
		if line != "" {
			w.indent(level)
			w.b = append(w.b, line...)
		}
	}
}

// quoted writes text in double quotes, everything that is not printable escaped.
func (w *writer) quoted(text string) {
	if simple := !strings.ContainsFunc(text, func(r rune) bool { return r == '\'' || !printable(r) }); simple && utf8.ValidString(text) {
		w.b = append(w.b, '\'')
		w.b = append(w.b, text...)
		w.b = append(w.b, '\'')
		return
	}
	w.b = append(w.b, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			w.b = append(w.b, '\\', byte(r))
		case r == '\n':
			w.b = append(w.b, `\n`...)
		case r == '\t':
			w.b = append(w.b, `\t`...)
		case printable(r):
			w.b = utf8.AppendRune(w.b, r)
		default:
			w.b = append(w.b, `\U`...)
			h := strconv.FormatUint(uint64(r), 16)
			w.b = append(w.b, "00000000"[len(h):]...)
			w.b = append(w.b, h...)
		}
	}
	w.b = append(w.b, '"')
}

// printable reports whether r may stand unescaped on a line of YAML.
func printable(r rune) bool {
	return r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && r != utf8.RuneError && r != '\ufeff'
}

// plainSafe reports whether text may stand without quotes after a key or a dash, and as a key.
func plainSafe(text string) bool {
	if text == "" || text[0] == ' ' || text[len(text)-1] == ' ' || text[len(text)-1] == ':' {
		return false
	}
	switch text[0] {
	case ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', '=':
		return false
	case '-', '?', ':':
		if len(text) == 1 || text[1] == ' ' {
			return false
		}
	}
	if strings.HasPrefix(text, "---") || strings.HasPrefix(text, "...") || text == "<<" || !utf8.ValidString(text) {
		return false
	}
	for i, r := range text {
		if !printable(r) {
			return false
		}
		if r == ':' && text[i+1] == ' ' || r == '#' && text[i-1] == ' ' {
			return false
		}
	}
	return true
}

// literalSafe reports whether text of several lines keeps its bytes in a literal block.
func literalSafe(text string) bool {
	body := strings.TrimSuffix(text, "\n")
	if !strings.Contains(body, "\n") || strings.HasSuffix(body, "\n") || !utf8.ValidString(text) {
		return false
	}
	if body[0] == ' ' || body[0] == '\n' || body[0] == '\t' {
		return false
	}
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" && strings.TrimSpace(line) == "" {
			return false
		}
		for _, r := range line {
			if !printable(r) && r != '\t' {
				return false
			}
		}
	}
	return true
}
