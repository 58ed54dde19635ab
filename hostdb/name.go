package hostdb

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckName reports whether name may name a namespace, a key or a host: 1 to 253 bytes of printable UTF-8 without
// slash, blank edges, leading dot or leading @. DNS is stricter; dnsd says which names it leaves out.
func CheckName(name string) error {
	switch {
	case name == "":
		return refuse(ErrBadName, "a name must not be empty")
	case len(name) > MaxName:
		return refuse(ErrBadName, "name of %d bytes: at most %d are allowed", len(name), MaxName)
	case !utf8.ValidString(name):
		return refuse(ErrBadName, "name %q is not UTF-8", name)
	case name[0] == '.':
		return refuse(ErrBadName, "name %q begins with a dot", name)
	case name[0] == '@':
		return refuse(ErrBadName, "name %q begins with @, which marks an inherited key in a member list", name)
	case name[0] == '#':
		return refuse(ErrBadName, "name %q begins with #, which marks a comment in a member list", name)
	case name != strings.TrimSpace(name):
		return refuse(ErrBadName, "name %q begins or ends with a blank", name)
	}
	for _, r := range name {
		if r == '/' {
			return refuse(ErrBadName, "name %q contains a slash", name)
		}
		if !unicode.IsPrint(r) {
			return refuse(ErrBadName, "name %q contains a character that is not printable", name)
		}
	}
	return nil
}

// checkMember accepts a host name or @key.
func checkMember(name string) error {
	return CheckName(strings.TrimPrefix(name, "@"))
}

// checkSegment reports whether s may be one step of a path into data.
func checkSegment(s string) error {
	if s == "" {
		return refuse(ErrInvalid, "an empty mapping key")
	}
	if len(s) > 512 {
		return refuse(ErrInvalid, "a mapping key of %d bytes: at most 512 are allowed", len(s))
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return refuse(ErrInvalid, "mapping key %q is not UTF-8 text", s)
	}
	return nil
}

// Path leads into a document: mapping keys joined by NUL, which no mapping key may contain. The zero Path is the root.
// NUL sorts below every other byte, so in sorted order the paths below p directly follow p.
type Path string

// PathOf joins mapping keys to a path.
func PathOf(segments ...string) Path { return Path(strings.Join(segments, "\x00")) }

// is reports whether p is the path of these mapping keys.
func (p Path) is(segments []string) bool {
	for i, s := range segments {
		if i > 0 {
			if p == "" || p[0] != 0 {
				return false
			}
			p = p[1:]
		}
		if len(p) < len(s) || string(p[:len(s)]) != s {
			return false
		}
		p = p[len(s):]
	}
	return p == ""
}

// Segments are the mapping keys of p, outermost first.
func (p Path) Segments() []string {
	if p == "" {
		return nil
	}
	return strings.Split(string(p), "\x00")
}

// String is p as people write it, with slashes.
func (p Path) String() string { return strings.ReplaceAll(string(p), "\x00", "/") }

// Above reports whether p is a strict ancestor of q.
func (p Path) Above(q Path) bool {
	if p == "" {
		return q != ""
	}
	return len(q) > len(p) && q[len(p)] == 0 && q[:len(p)] == p
}

// comparable reports whether one of p and q is the other or above it.
func (p Path) comparable(q Path) bool { return p == q || p.Above(q) || q.Above(p) }

// join is p with rest below it.
func (p Path) join(rest Path) Path {
	switch {
	case p == "":
		return rest
	case rest == "":
		return p
	}
	return p + "\x00" + rest
}

// NormalAddr is the canonical text of an IP address, "" when text is none. Index keys are in this form.
func NormalAddr(text string) string {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return ""
	}
	return a.Unmap().String()
}
