package layout

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"hostmesh/hostdb"
)

// lines ends every line of text with a newline alone. Flipkart's HostDB splits lists at any line break that Perl
// knows as \R.
var lines = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// parseMembers reads a member list as hostdb.ParseMembers does, but goes on after a bad line, so that one reading
// finds all of them. It fills Members and the line of each. ok is false when the file as a whole is of no use.
func (k *Key) parseMembers(file string, raw []byte, ps *Problems) (ok bool) {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if line := badUTF8(raw); line > 0 {
		ps.fatal(file, line, "the text is not UTF-8")
		return false
	}
	var text strings.Builder
	first := map[string]int{}
	number := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(lines.Replace(string(raw)), "\n"), "\n") {
		number++
		name := strings.TrimSpace(line)
		if name == "" || name[0] == '#' {
			if len(raw) > 0 {
				text.WriteString(strings.TrimRight(line, " \t") + "\n")
			}
			continue
		}
		if err := hostdb.CheckName(strings.TrimPrefix(name, "@")); err != nil {
			ps.fatal(file, number, "%s", err)
			continue
		}
		if before, twice := first[name]; twice {
			ps.warn(file, number, "%s stands already on line %d; the first counts", name, before)
			continue
		}
		first[name] = number
		if len(first) > hostdb.MaxMembers {
			ps.fatal(file, number, "more than %d members", hostdb.MaxMembers)
			return false
		}
		k.Members = append(k.Members, hostdb.Member{Name: name, Text: text.String()})
		k.lines = append(k.lines, number)
		text.Reset()
	}
	if text.Len() > 0 {
		k.Members = append(k.Members, hostdb.Member{Text: text.String()})
		k.lines = append(k.lines, number)
	}
	k.HasMembers = true
	return true
}

// keepMembers drops the members that keep refuses. Comments before a dropped member go to the next one.
func (k *Key) keepMembers(keep func(name string, line int) bool) {
	carry := ""
	n := 0
	for i, m := range k.Members {
		if m.Name != "" && !keep(m.Name, k.lines[i]) {
			carry += m.Text
			continue
		}
		m.Text = carry + m.Text
		carry = ""
		k.Members[n], k.lines[n] = m, k.lines[i]
		n++
	}
	k.Members, k.lines = k.Members[:n], k.lines[:n]
	if carry != "" {
		k.Members, k.lines = append(k.Members, hostdb.Member{Text: carry}), append(k.lines, 0)
	}
}

// badUTF8 is the line of the first byte that is not UTF-8, 0 when there is none.
func badUTF8(text []byte) int {
	if utf8.Valid(text) {
		return 0
	}
	line := 1
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		text = text[size:]
	}
	return line
}
