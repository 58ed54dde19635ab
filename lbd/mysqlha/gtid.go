package mysqlha

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The flavours of servers.
const (
	MariaDB = "mariadb"
	MySQL8  = "mysql"
)

// ErrGTID is returned for a text that is no list of GTIDs of its flavour.
var ErrGTID = errors.New("not a list of GTIDs")

// maxGTIDs bounds how many parts a list may have: servers' own texts are far below, and nobody else's are read to the end.
const maxGTIDs = 4096

// GTIDs are transactions by their global ids. The zero value is none. It is immutable, and safe for concurrent use.
//
// MariaDB's ids are domain-server-sequence, and what a server says of itself is the last sequence of each domain and server: its gtid_binlog_state is
// a set, of which membership can be asked; its gtid_slave_pos and Gtid_IO_Pos are positions, one id a domain, which say how far it has come in
// the history of its source. MySQL's are sets of intervals, for both.
type GTIDs struct {
	last map[gtidStream]uint64  // MariaDB
	runs map[string][]gtidRange // MySQL: by UUID and tag; sorted, apart
}

type gtidStream struct{ domain, server uint32 }

type gtidRange struct{ from, to uint64 } // both belong to it

// ParseGTIDs reads what a server of a flavour says. The text is trusted in nothing.
func ParseGTIDs(flavour, text string) (GTIDs, error) {
	var g GTIDs
	var err error
	switch flavour {
	case MariaDB:
		g.last, err = parseMaria(text)
	case MySQL8:
		g.runs, err = parseMySQL(text)
	default:
		err = fmt.Errorf("%w: %q; expected %s or %s", ErrFlavour, flavour, MariaDB, MySQL8)
	}
	if err != nil {
		return GTIDs{}, err
	}
	return g, nil
}

func parseMaria(text string) (map[gtidStream]uint64, error) {
	out := map[gtidStream]uint64{}
	n := 0
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if n++; n > maxGTIDs {
			return nil, fmt.Errorf("%w: it has more than %d parts", ErrGTID, maxGTIDs)
		}
		fields := strings.Split(part, "-")
		if len(fields) != 3 {
			return nil, fmt.Errorf("%w: %s; expected domain-server-sequence", ErrGTID, quoteShort(part))
		}
		domain, err1 := strconv.ParseUint(fields[0], 10, 32)
		server, err2 := strconv.ParseUint(fields[1], 10, 32)
		seq, err3 := strconv.ParseUint(fields[2], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("%w: %s; expected three numbers, of 32, 32 and 64 bits", ErrGTID, quoteShort(part))
		}
		if seq == 0 {
			continue // nothing yet
		}
		k := gtidStream{uint32(domain), uint32(server)}
		out[k] = max(out[k], seq)
	}
	return out, nil
}

func parseMySQL(text string) (map[string][]gtidRange, error) {
	out := map[string][]gtidRange{}
	n := 0
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		fields := strings.Split(part, ":")
		id := strings.ToLower(strings.TrimSpace(fields[0]))
		if !isUUID(id) {
			return nil, fmt.Errorf("%w: %s; expected uuid:first-last", ErrGTID, quoteShort(part))
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("%w: %s has no interval", ErrGTID, quoteShort(part))
		}
		source := id
		for _, f := range fields[1:] {
			f = strings.TrimSpace(f)
			if n++; n > maxGTIDs {
				return nil, fmt.Errorf("%w: it has more than %d parts", ErrGTID, maxGTIDs)
			}
			if isTag(f) { // MySQL 8.3: uuid:tag:1-5
				source = id + ":" + strings.ToLower(f)
				continue
			}
			first, last, two := strings.Cut(f, "-")
			from, err1 := strconv.ParseUint(first, 10, 63)
			to, err2 := from, error(nil)
			if two {
				to, err2 = strconv.ParseUint(last, 10, 63)
			}
			if err := errors.Join(err1, err2); err != nil || from == 0 || to < from {
				return nil, fmt.Errorf("%w: %s is no interval; expected first-last, from 1 on", ErrGTID, quoteShort(f))
			}
			out[source] = append(out[source], gtidRange{from, to})
		}
	}
	for k, r := range out {
		out[k] = joined(r)
	}
	return out, nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

func isTag(s string) bool {
	if s == "" || len(s) > 32 || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// joined sorts ranges, and makes one of those that touch.
func joined(r []gtidRange) []gtidRange {
	slices.SortFunc(r, func(a, b gtidRange) int { return cmp.Compare(a.from, b.from) })
	out := r[:0]
	for _, x := range r {
		if n := len(out); n > 0 && x.from <= out[n-1].to+1 {
			out[n-1].to = max(out[n-1].to, x.to)
			continue
		}
		out = append(out, x)
	}
	return out
}

func quoteShort(s string) string {
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}

// Empty reports whether it is none.
func (g GTIDs) Empty() bool { return len(g.last) == 0 && len(g.runs) == 0 }

// String is the text that a server of the flavour takes, in a fixed order.
func (g GTIDs) String() string {
	var parts []string
	for _, k := range slices.SortedFunc(maps.Keys(g.last), compareStreams) {
		parts = append(parts, fmt.Sprintf("%d-%d-%d", k.domain, k.server, g.last[k]))
	}
	for _, id := range slices.Sorted(maps.Keys(g.runs)) {
		var b strings.Builder
		b.WriteString(id)
		for _, r := range g.runs[id] {
			if fmt.Fprintf(&b, ":%d", r.from); r.to > r.from {
				fmt.Fprintf(&b, "-%d", r.to)
			}
		}
		parts = append(parts, b.String())
	}
	return strings.Join(parts, ",")
}

func compareStreams(a, b gtidStream) int {
	return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.server, b.server))
}

// Contains reports whether g, a set, has every transaction of h. It asks for membership: that a sequence number is lower says nothing
// about a transaction of another server.
func (g GTIDs) Contains(h GTIDs) bool { return h.Minus(g).Empty() }

// Minus is what g has and h, a set, has not. Of MariaDB's streams it has the last one only, which stands for those after h's last.
func (g GTIDs) Minus(h GTIDs) GTIDs {
	var out GTIDs
	for k, seq := range g.last {
		if seq > h.last[k] {
			if out.last == nil {
				out.last = map[gtidStream]uint64{}
			}
			out.last[k] = seq
		}
	}
	for id, r := range g.runs {
		if rest := without(r, h.runs[id]); len(rest) > 0 {
			if out.runs == nil {
				out.runs = map[string][]gtidRange{}
			}
			out.runs[id] = rest
		}
	}
	return out
}

// without is a less b; both are sorted and apart.
func without(a, b []gtidRange) []gtidRange {
	var out []gtidRange
	for _, x := range a {
		for _, y := range b {
			if y.to < x.from || y.from > x.to {
				continue
			}
			if y.from > x.from {
				out = append(out, gtidRange{x.from, y.from - 1})
			}
			x.from = y.to + 1
			if x.from > x.to {
				break
			}
		}
		if x.from <= x.to {
			out = append(out, x)
		}
	}
	return out
}

// Union has all of both.
func (g GTIDs) Union(h GTIDs) GTIDs {
	var out GTIDs
	if len(g.last)+len(h.last) > 0 {
		out.last = maps.Clone(g.last)
		if out.last == nil {
			out.last = map[gtidStream]uint64{}
		}
		for k, seq := range h.last {
			out.last[k] = max(out.last[k], seq)
		}
	}
	if len(g.runs)+len(h.runs) > 0 {
		out.runs = map[string][]gtidRange{}
		for id, r := range g.runs {
			out.runs[id] = slices.Clone(r)
		}
		for id, r := range h.runs {
			out.runs[id] = joined(append(slices.Clone(out.runs[id]), r...))
		}
	}
	return out
}

// Reaches reports whether g, a position, is as far as h or further, where both are in the history of one source: then a higher sequence number
// of a domain says that all lower ones were there, whoever wrote them. It says nothing of errant transactions: Contains does.
func (g GTIDs) Reaches(h GTIDs) bool {
	mine := g.domains()
	for domain, seq := range h.domains() {
		if mine[domain] < seq {
			return false
		}
	}
	return len(h.runs) == 0 || (GTIDs{runs: g.runs}).Contains(GTIDs{runs: h.runs})
}

// Past reports whether g, a position, is further than h in one of the domains that h has.
func (g GTIDs) Past(h GTIDs) bool {
	mine := g.domains()
	for domain, seq := range h.domains() {
		if mine[domain] > seq {
			return true
		}
	}
	for id, list := range h.runs {
		if len(without(g.runs[id], list)) > 0 {
			return true
		}
	}
	return false
}

// Further is the position that is further of two, domain by domain.
func (g GTIDs) Further(h GTIDs) GTIDs {
	out := g.Union(h)
	top := out.domains()
	for k, seq := range out.last {
		if seq < top[k.domain] {
			delete(out.last, k)
		}
	}
	return out
}

// Count is how many transactions of h's history g has, for ranking: the sum of the last sequences of its domains, or of its intervals.
func (g GTIDs) Count() uint64 {
	var n uint64
	for _, seq := range g.domains() {
		n += seq
	}
	for _, list := range g.runs {
		for _, r := range list {
			n += r.to - r.from + 1
		}
	}
	return n
}

func (g GTIDs) domains() map[uint32]uint64 {
	out := make(map[uint32]uint64, len(g.last))
	for k, seq := range g.last {
		out[k.domain] = max(out[k.domain], seq)
	}
	return out
}

// ofServer reports what of a MariaDB set one server wrote, and the rest.
func (g GTIDs) ofServer(id uint32) (its, others GTIDs) {
	its.last, others.last = map[gtidStream]uint64{}, map[gtidStream]uint64{}
	for k, seq := range g.last {
		if k.server == id {
			its.last[k] = seq
		} else {
			others.last[k] = seq
		}
	}
	others.runs = g.runs
	return its, others
}

// Inherited is what the binary log of a copy is to say that it has: its position, and of what a server of the same history has said since, whose copy it may be, all that is not after that. What is
// newer of one that wrote before, too, the copy gets when it follows. The order matters: the last of a domain is the newest. "" = nothing needs to be said: there is nothing, or the flavour keeps it by itself.
func Inherited(flavour, history, position string) string {
	at, err := parseMaria(position)
	if flavour != MariaDB || err != nil || len(at) == 0 {
		return ""
	}
	if _, err := parseMaria(history); err != nil {
		return ""
	}
	var out []string
	domains := GTIDs{last: at}.domains()
	for part := range strings.SplitSeq(history, ",") {
		one, _ := parseMaria(part)
		for k, seq := range one {
			if _, newer := at[k]; !newer && seq <= domains[k.domain] {
				out = append(out, strings.TrimSpace(part))
			}
		}
	}
	for part := range strings.SplitSeq(position, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return strings.Join(out, ",")
}

// PositionOf is how far a replica has come, applied or not; of a server that follows nobody, what it has. What a server says that cannot be read
// counts as nothing, and the error says so.
func PositionOf(f Facts) (GTIDs, error) {
	current, err := ParseGTIDs(f.Flavour, f.Current)
	received, err2 := ParseGTIDs(f.Flavour, f.Received)
	return received.Further(current), errors.Join(err, err2)
}

// Unapplied reports whether a replica has received what it has not applied.
func Unapplied(f Facts) bool {
	current, err := ParseGTIDs(f.Flavour, f.Current)
	received, err2 := ParseGTIDs(f.Flavour, f.Received)
	return err == nil && err2 == nil && !current.Reaches(received)
}

// lacks is what of a position, which another server of the cluster has reached, a server has not got. What it received it has from the history that both
// share: there a higher number says that it has the lower ones. Of what it wrote itself only membership says anything. applied leaves out what it received.
func lacks(f Facts, position GTIDs, applied bool) GTIDs {
	var out GTIDs
	received, _ := ParseGTIDs(f.Flavour, f.Received) // what cannot be read counts as nothing
	current, _ := ParseGTIDs(f.Flavour, f.Current)
	binlog, _ := ParseGTIDs(f.Flavour, f.Binlog)
	if applied {
		received = GTIDs{}
	}
	domains := received.domains()
	if binlog.Empty() { // a copy has no log yet: what it has, its source had
		domains = received.Further(current).domains()
	}
	for k, seq := range position.last {
		if received.last[k] < seq && current.last[k] < seq && binlog.last[k] < seq && domains[k.domain] <= seq {
			if out.last == nil {
				out.last = map[gtidStream]uint64{}
			}
			out.last[k] = seq
		}
	}
	out.runs = GTIDs{runs: position.runs}.Minus(received.Union(current)).runs
	return out
}

// Errant is what a server's binary log has that its source's has not. sourceLater says that the source was asked after the server had answered; if not,
// what the source itself wrote in between does not count.
func Errant(server, source Facts, sourceLater bool) (GTIDs, error) {
	have, err := ParseGTIDs(server.Flavour, server.Binlog)
	of, err2 := ParseGTIDs(source.Flavour, source.Binlog)
	if err := errors.Join(err, err2); err != nil {
		return GTIDs{}, err
	}
	extra := have.Minus(of)
	if !sourceLater {
		_, extra = extra.ofServer(source.ServerID)
		if source.Flavour == MySQL8 {
			return GTIDs{}, nil // sets are not by server id: only a later answer tells
		}
	}
	return extra, nil
}

// Forgotten is what a source has, up to there, that a server of MariaDB wrote itself and has not got any more: it was started as a replica, and dropped what had not been
// acknowledged, as far as it knew. It would not take that back from the source, but skip it without a word, for a server takes what has its own number for
// something that it has, unless it acknowledges: see takeBack. Both follow one history.
//
// That its position is further proves nothing where its log still has what it wrote, for it comes past what it skips: there its log must have it. Where the log has nothing of its
// own it is a copy, or its log was begun anew, and what it has its source had.
func Forgotten(server, source Facts) (GTIDs, error) {
	if server.Flavour != MariaDB {
		return GTIDs{}, nil
	}
	has, err := ParseGTIDs(server.Flavour, server.Current) // what was received and not applied goes with the next start
	log, err2 := ParseGTIDs(server.Flavour, server.Binlog)
	of, err3 := ParseGTIDs(source.Flavour, source.Binlog)
	if err := errors.Join(err, err2, err3); err != nil {
		return GTIDs{}, err
	}
	its, _ := of.ofServer(server.ServerID)
	domains, lost := has.domains(), GTIDs{last: map[gtidStream]uint64{}}
	for k, seq := range its.last {
		if written := log.last[k]; written != 0 && written < seq || written == 0 && domains[k.domain] < seq {
			lost.last[k] = seq
		}
	}
	return lost, nil
}
