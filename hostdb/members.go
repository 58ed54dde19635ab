package hostdb

import (
	"encoding/binary"
	"strings"
)

// Member is one line of a member list with the comment and blank lines that stand before it.
type Member struct {
	Name string // a host, or @key of the same namespace; "" only for the text after the last member
	Text string // whole lines, each ended by a newline
}

// ParseMembers reads a raw member list: a name a line; # lines and blank lines are text of the next member; blanks
// around a name are ignored; CRLF becomes LF; a name that comes again is dropped.
// The result ends with the nameless Member if text follows the last name.
func ParseMembers(raw string) ([]Member, error) {
	var out []Member
	var text strings.Builder
	seen := map[string]bool{}
	raw = strings.ReplaceAll(raw, "\r\n", "\n")
	number := 0
	for line := range strings.SplitAfterSeq(raw, "\n") {
		number++
		if line == "" {
			continue
		}
		name := strings.TrimSpace(line)
		if name == "" || name[0] == '#' {
			text.WriteString(strings.TrimRight(line, " \t\n") + "\n")
			continue
		}
		if err := checkMember(name); err != nil {
			return nil, refuse(ErrBadName, "member list line %d: %s", number, err)
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		if len(seen) > MaxMembers {
			return nil, refuse(ErrTooLarge, "member list: more than %d members", MaxMembers)
		}
		out = append(out, Member{Name: name, Text: text.String()})
		text.Reset()
	}
	if text.Len() > 0 {
		out = append(out, Member{Text: text.String()})
	}
	return out, nil
}

// FormatMembers is the raw text of a member list. Joined lines have no newline at the end, as lists of /v1 have none.
func FormatMembers(list []Member) string {
	var b strings.Builder
	for _, m := range list {
		b.WriteString(m.Text)
		if m.Name != "" {
			b.WriteString(m.Name)
			b.WriteByte('\n')
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// orderGap leaves room between neighbours for later insertions.
const orderGap = 1 << 24

// orderAfter is a place in a list behind the place o; "" is the place before all.
func orderAfter(o string) string {
	var n uint64
	if len(o) >= 8 {
		n = binary.BigEndian.Uint64([]byte(o))
	} else {
		var full [8]byte
		copy(full[:], o)
		n = binary.BigEndian.Uint64(full[:])
	}
	if n > 1<<63 {
		return o + "\x80" // nobody appends this often; stay correct all the same
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n+orderGap)
	return string(b[:])
}

// orderBetween is a place after lo and before hi, where lo < hi and hi does not end in NUL bytes only below lo.
// hi "" is the end of all places. ok is false when no place exists, which only foreign operations can cause.
func orderBetween(lo, hi string) (o string, ok bool) {
	if hi == "" {
		return orderAfter(lo), true
	}
	var b []byte
	bounded := true // b so far equals hi's beginning
	for i := 0; ; i++ {
		l, h := 0, 256
		if i < len(lo) {
			l = int(lo[i])
		}
		if bounded {
			if i >= len(hi) {
				return "", false
			}
			h = int(hi[i])
		}
		if h-l > 1 {
			return string(append(b, byte(l+(h-l)/2))), true
		}
		if h-l == 1 && bounded {
			bounded = false // b now stays below hi whatever follows
		}
		if h < l {
			return "", false
		}
		b = append(b, byte(l))
		if i > len(lo)+len(hi)+2 {
			return "", false
		}
	}
}

// keepInPlace marks the elements of places that may stay where they are: a longest increasing subsequence. Elements
// with place "" are new and never stay.
func keepInPlace(places []string) []bool {
	keep := make([]bool, len(places))
	var tails []int // tails[k] ends the best subsequence of length k+1
	prev := make([]int, len(places))
	for i, p := range places {
		if p == "" {
			continue
		}
		lo, hi := 0, len(tails)
		for lo < hi {
			m := (lo + hi) / 2
			if places[tails[m]] < p {
				lo = m + 1
			} else {
				hi = m
			}
		}
		prev[i] = -1
		if lo > 0 {
			prev[i] = tails[lo-1]
		}
		if lo == len(tails) {
			tails = append(tails, i)
		} else {
			tails[lo] = i
		}
	}
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = prev[i] {
			keep[i] = true
		}
	}
	return keep
}
