package hostdb

import (
	"encoding/binary"
	"regexp"
	"strings"
)

// Value is one leaf of a document, encoded: a scalar, a whole sequence, or an empty mapping. Equal values have equal
// encodings, so == compares them. The first byte tells the kind:
//
//	s text   a string
//	p text   a plain scalar that some YAML reader would take for more than a string (0755, yes, 2024-01-01, null),
//	         in the writer's spelling
//	l items  a sequence; each item is its length (uvarint) and its Value
//	m pairs  a mapping (only inside sequences, or empty); keys sorted, each its length and text, then as an item
//
// The encoding is part of the operation format and never changes. The zero Value is no value.
type Value string

// Null is the value of nothing, as in an empty document.
const Null Value = "pnull"

// emptyMapping marks that a mapping is here even if nothing is in it.
const emptyMapping Value = "m"

// Text makes the Value of a string.
func Text(s string) Value { return Value("s" + s) }

// IsScalar reports whether v is a string or another scalar.
func (v Value) IsScalar() bool { return v != "" && (v[0] == 's' || v[0] == 'p') }

// IsNull reports whether v is a plain null in any spelling.
func (v Value) IsNull() bool {
	if v == "" || v[0] != 'p' {
		return false
	}
	switch v[1:] {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// IsSequence reports whether v is a sequence.
func (v Value) IsSequence() bool { return v != "" && v[0] == 'l' }

// Quoted reports whether v is a scalar that is a string for sure: it was quoted, or is a plain string to every reader.
func (v Value) Quoted() bool { return v != "" && v[0] == 's' }

// Scalar is the text of a scalar in the writer's spelling; "" for null and for what is no scalar.
func (v Value) Scalar() string {
	if !v.IsScalar() || v.IsNull() {
		return ""
	}
	return string(v[1:])
}

// parts calls fn for each item of a sequence, or each key and value of a mapping. It reports false when the encoding
// is broken, which only another program can have caused.
func (v Value) parts(fn func(key string, item Value) bool) bool {
	if v == "" || v[0] != 'l' && v[0] != 'm' {
		return false
	}
	rest := string(v[1:])
	next := func() (string, bool) {
		n, w := uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			return "", false
		}
		s := rest[w : w+int(n)]
		rest = rest[w+int(n):]
		return s, true
	}
	for rest != "" {
		var key string
		if v[0] == 'm' {
			k, ok := next()
			if !ok {
				return false
			}
			key = k
		}
		item, ok := next()
		if !ok || item == "" {
			return false
		}
		if !fn(key, Value(item)) {
			return true
		}
	}
	return true
}

// valid reports whether v is well formed to its depth. A Value of our own making always is.
func (v Value) valid(depth int) bool {
	if v == "" || depth > maxSteps {
		return false
	}
	switch v[0] {
	case 's':
		return true
	case 'p':
		return ambiguous(string(v[1:]))
	case 'l', 'm':
		ok := true
		return v.parts(func(_ string, item Value) bool { ok = item.valid(depth + 1); return ok }) && ok
	}
	return false
}

// sound reports whether v can be walked: it has the form of a Value and is not nested without end. Unlike valid it does not ask
// how a text is spelled, which is for readers to say, so that it is the same for every version.
func (v Value) sound(depth int) bool {
	if v == "" || depth > maxSteps {
		return false
	}
	switch v[0] {
	case 's', 'p':
		return true
	}
	ok := true
	return v.parts(func(_ string, item Value) bool { ok = item.sound(depth + 1); return ok }) && ok
}

func uvarint(s string) (uint64, int) {
	var x uint64
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		b := s[i]
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return x, i + 1
		}
	}
	return 0, 0
}

func appendPart(b []byte, part string) []byte {
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

// plainScalar matches what readers of YAML 1.1 or 1.2 resolve to a number or a time. It is wide on purpose:
// Ruby's reader takes 00:11:22 for a number.
var plainScalar = regexp.MustCompile(`^(?:` +
	`[-+]?(?:0b[01_]+|0o?[0-7_]+|[0-9][0-9_,]*|0x[0-9a-fA-F_]+)` + // integers
	`|[-+]?(?:[0-9][0-9_,]*)?\.?[0-9_]*(?:[eE][-+]?[0-9]+)?` + // floats
	`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?` + // base 60
	`|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)` +
	`|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?` +
	`)$`)

// ambiguous reports whether some reader of YAML takes the plain text for more than a string.
func ambiguous(text string) bool {
	switch text {
	case "", "~", "null", "Null", "NULL",
		"y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO",
		"true", "True", "TRUE", "false", "False", "FALSE",
		"on", "On", "ON", "off", "Off", "OFF":
		return true
	}
	if c := text[0]; c > '9' || !strings.ContainsRune("0123456789+-.", rune(c)) {
		return false
	}
	// Most texts that begin like a number are addresses and models: a look at the letters settles them.
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		case strings.IndexByte("+-._,:xoTtZiInN \t", c) >= 0:
		default:
			return false
		}
	}
	if text == "-" || text == "+" || text == "." || isQuad(text) {
		return false
	}
	return plainScalar.MatchString(text)
}

// isQuad reports whether text is digits in four parts, as IPv4 addresses are: never a number.
func isQuad(text string) bool {
	dots := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '.':
			dots++
		case c < '0' || c > '9':
			return false
		}
	}
	return dots == 3
}
