package rest

import "strings"

// maxParams bounds the parameters that are kept; clients send six at most. What follows is dropped, so that a body of
// nothing but "&a" does not become many times its size.
const maxParams = 100

// params are the parameters of a request: of its form, then of its query. The first of a name counts.
type params struct{ list []param }

type param struct{ name, value string }

// parse adds the parameters of an encoded form or query. It is lenient where url.ParseQuery drops what clients have
// always sent: "%" that begins no escape stands for itself, and ";" is a character like any other.
func (p *params) parse(encoded string) {
	for encoded != "" && len(p.list) < maxParams {
		var pair string
		pair, encoded, _ = strings.Cut(encoded, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		p.list = append(p.list, param{unescape(name), unescape(value)})
	}
}

// get is the first value of name, "" when there is none.
func (p *params) get(name string) string {
	v, _ := p.lookup(name)
	return v
}

func (p *params) lookup(name string) (value string, ok bool) {
	for i := range p.list {
		if p.list[i].name == name {
			return p.list[i].value, true
		}
	}
	return "", false
}

// isSet reports whether name has a value that Perl takes for true: neither empty nor 0.
func (p *params) isSet(name string) bool {
	v := p.get(name)
	return v != "" && v != "0"
}

// unescape decodes a form's "+" and "%41" once.
func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			out = append(out, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
