package hostdb

import (
	"slices"
	"strings"
)

// Most documents are of one kind: mappings by indentation, with plain values on their lines. Those are read here, without
// a YAML parser, at a tenth of its cost; at the first sign of anything else the parser reads the whole. What is read here
// is read as the parser reads it (a test holds the two against each other).

// maxPlainLine bounds the lines read here: YAML bounds keys, and the parser knows how.
const maxPlainLine = 400

// readPlain reads a document of that kind; ok is false for anything else.
func readPlain(text string) (d Document, ok bool) {
	if len(text) < 64 && !strings.Contains(text, "\n") && plainText(text) {
		return Document{leaves: []Leaf{{Value: plainValue(text)}}}, true
	}
	r := plainReader{rest: text}
	if text == "" || !r.next() || r.indent != 0 || !r.mapping("", 0, 0) || !r.end {
		return Document{}, false
	}
	for i := 1; i < len(r.out); i++ {
		if r.out[i-1].Path >= r.out[i].Path {
			slices.SortFunc(r.out, func(a, b Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) })
			break
		}
	}
	return Document{leaves: r.out}, true
}

// plainReader reads line by line.
type plainReader struct {
	rest       string
	indent     int
	key, value string // of the line at hand; no value is ""
	end        bool   // there is no line at hand
	out        []Leaf
}

// next reads the next line; false when it is of another kind.
func (r *plainReader) next() bool {
	if r.rest == "" {
		r.end = true
		return true
	}
	line, rest, _ := strings.Cut(r.rest, "\n")
	r.rest = rest
	if len(line) > maxPlainLine {
		return false
	}
	r.indent = 0
	for r.indent < len(line) && line[r.indent] == ' ' {
		r.indent++
	}
	line = line[r.indent:]
	colon := strings.IndexByte(line, ':')
	if colon < 0 || !plainText(line[:colon]) {
		return false
	}
	r.key, r.value = line[:colon], ""
	if line = line[colon+1:]; line != "" {
		if line[0] != ' ' || !plainText(line[1:]) {
			return false
		}
		r.value = line[1:]
	}
	return true
}

// mapping reads the lines of one indentation, with what is below them.
func (r *plainReader) mapping(at Path, indent, depth int) bool {
	if depth > MaxDepth/2 {
		return false
	}
	var seen [24]string
	keys := seen[:0]
	for !r.end && r.indent == indent {
		if slices.Contains(keys, r.key) || len(keys) > 200 {
			return false
		}
		keys = append(keys, r.key)
		p, value := at.join(Path(r.key)), r.value
		if !r.next() {
			return false
		}
		switch deeper := !r.end && r.indent > indent; {
		case deeper && value != "":
			return false // the value goes on
		case deeper:
			if !r.mapping(p, r.indent, depth+1) {
				return false
			}
			if !r.end && r.indent > indent {
				return false // between two indentations
			}
		default:
			r.out = append(r.out, Leaf{Path: p, Value: plainValue(value)})
		}
	}
	return true
}

// plainValue is the value of a plain scalar.
func plainValue(text string) Value {
	switch {
	case text == "":
		return Null
	case ambiguous(text):
		return Value("p" + text)
	}
	return Text(text)
}

// plainText reports whether text is surely one plain scalar on one line, of printable ASCII.
func plainText(text string) bool {
	if text == "" || !isWord(text[0]) || text[len(text)-1] == ' ' || text[len(text)-1] == ':' {
		return false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case isWord(c):
		case c == ' ' || c == ':':
			if next := text[i+1]; next == ' ' && c == ':' || next == '#' {
				return false
			}
		case strings.IndexByte("._/-+@,()=", c) < 0:
			return false
		}
	}
	return true
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}
