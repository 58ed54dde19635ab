package query

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hostmesh/hostdb"
)

// Values in an expression are: nil, bool, int, float64, string, time.Time, time.Duration, []string and []any, which the
// expression itself made; hostdb.Value for a scalar of a document, in the writer's spelling; hostdb.Document for a
// mapping or sequence of one.

// valueOf is what stands in a document, nil for null and for what is not there.
func valueOf(d hostdb.Document) any {
	if !d.Exists() {
		return nil
	}
	v, leaf := d.Value()
	switch {
	case !leaf || !v.IsScalar():
		return d
	case v.IsNull():
		return nil
	}
	return v
}

// documentOf is a value as a document; not there for nil.
func documentOf(v any) hostdb.Document {
	switch v := v.(type) {
	case nil:
		return hostdb.Document{}
	case hostdb.Document:
		return v
	}
	return hostdb.NewDocument(hostdb.Leaf{Value: encode(v)})
}

// weigh is about how many bytes a value takes in an answer; it stops soon after there are more than limit, because a
// list may hold the same long list many times.
func weigh(v any, limit int) int {
	n := 16
	switch v := v.(type) {
	case []string:
		for _, s := range v {
			n += len(s) + 8
		}
	case []any:
		for _, item := range v {
			if n += weigh(item, limit-n); n > limit {
				break
			}
		}
	case hostdb.Document:
		for p, leaf := range v.Leaves() {
			n += len(p) + len(leaf) + 16
		}
	default:
		text, _ := textOf(v)
		n += len(text)
	}
	return n
}

// encode is a value in the form of documents.
func encode(v any) hostdb.Value {
	switch v := v.(type) {
	case hostdb.Value:
		return v
	case bool:
		return hostdb.Value("p" + strconv.FormatBool(v))
	case int, float64:
		return hostdb.Value("p" + numberText(v))
	case []string:
		b := []byte{'l'}
		for _, item := range v {
			b = appendPart(b, string(hostdb.Text(item)))
		}
		return hostdb.Value(b)
	case []any:
		b := []byte{'l'}
		for _, item := range v {
			b = appendPart(b, string(encode(item)))
		}
		return hostdb.Value(b)
	case hostdb.Document:
		if leaf, ok := v.Value(); ok {
			return leaf
		}
		b := []byte{'m'}
		for key, sub := range v.Keys() {
			b = appendPart(appendPart(b, key), string(encode(sub)))
		}
		return hostdb.Value(b)
	}
	if s, ok := showText(v); ok {
		return hostdb.Text(s)
	}
	return hostdb.Null
}

func appendPart(b []byte, part string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// textOf is a text of a document or of the expression.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case hostdb.Value:
		return v.Scalar(), v.IsScalar()
	}
	return "", false
}

// showText is any single value as text.
func showText(v any) (string, bool) {
	switch v := v.(type) {
	case int, float64:
		return numberText(v), true
	case bool:
		return strconv.FormatBool(v), true
	case time.Time:
		return v.UTC().Format(time.RFC3339), true
	case time.Duration:
		return v.String(), true
	}
	return textOf(v)
}

func numberText(v any) string {
	if n, ok := v.(int); ok {
		return strconv.Itoa(n)
	}
	return strconv.FormatFloat(v.(float64), 'f', -1, 64)
}

// numberOf is a value as a number. Texts count when they are plain decimals: 12, 0755, 1.5, -3, 1e3.
func numberOf(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	s, ok := textOf(v)
	if !ok || s == "" || len(s) > 40 || strings.IndexByte("0123456789+-.", s[0]) < 0 || strings.ContainsAny(s, "xX_pPnN") {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && !math.IsInf(n, 0)
}

// arithmetic is a value as the int or float64 to compute with; nil when it is no number.
func arithmetic(v any) any {
	switch v.(type) {
	case int, float64:
		return v
	}
	n, ok := numberOf(v)
	if !ok {
		return nil
	}
	return tidy(n)
}

// tidy is an int where n is a whole number that float64 holds exactly.
func tidy(n float64) any {
	switch {
	case math.IsNaN(n) || math.IsInf(n, 0):
		return nil
	case n == math.Trunc(n) && math.Abs(n) < 1<<53:
		return int(n)
	}
	return n
}

func isNumber(v any) bool {
	switch v.(type) {
	case int, float64:
		return true
	}
	return false
}

// looksLikeNumber reports whether a document's scalar was written as a plain number, so that two of them compare as such.
func looksLikeNumber(v any) bool {
	value, ok := v.(hostdb.Value)
	if !ok || value.Quoted() {
		return false
	}
	_, ok = numberOf(value)
	return ok
}

// truthOf is a value as true or false: YAML's spellings of both.
func truthOf(v any) (truth, ok bool) {
	if b, is := v.(bool); is {
		return b, true
	}
	s, _ := textOf(v)
	switch strings.ToLower(s) {
	case "true", "yes", "on", "y":
		return true, true
	case "false", "no", "off", "n":
		return false, true
	}
	return false, false
}

// asTime reads a day, which stands for its beginning in UTC, or an instant of RFC 3339.
func asTime(v any) (time.Time, bool) {
	if t, ok := v.(time.Time); ok {
		return t, true
	}
	s, _ := textOf(v)
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, true
	}
	t, err := time.Parse(time.RFC3339, s)
	return t.UTC(), err == nil
}

var durationUnits = map[string]time.Duration{
	"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second, "ms": time.Millisecond,
}

// asDuration reads 1h30m, 14d and the like.
func asDuration(v any) (time.Duration, bool) {
	if d, ok := v.(time.Duration); ok {
		return d, true
	}
	s, _ := textOf(v)
	if s == "" || len(s) > 40 {
		return 0, false
	}
	var sum float64
	for s != "" {
		i := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if i <= 0 {
			return 0, false
		}
		n, err := strconv.ParseFloat(s[:i], 64)
		if err != nil {
			return 0, false
		}
		s = s[i:]
		j := strings.IndexAny(s, "0123456789.")
		if j < 0 {
			j = len(s)
		}
		unit, known := durationUnits[s[:j]]
		if !known {
			return 0, false
		}
		sum += n * float64(unit)
		s = s[j:]
	}
	return time.Duration(sum), sum < math.MaxInt64/2
}

// isList reports whether a value has items; mappings have them too.
func isList(v any) bool {
	switch v.(type) {
	case []string, []any, hostdb.Document:
		return true
	}
	return false
}

// items are the items of a list, the values of a mapping, nothing for nil, and the value itself for what is no list:
// people write one alias without brackets.
func items(w *row, v any) ([]any, error) {
	var out []any
	switch v := v.(type) {
	case nil:
		return []any{}, nil
	case []any:
		return v, nil
	case []string:
		if err := w.spend(len(v)); err != nil {
			return nil, err
		}
		out = make([]any, len(v))
		for i, s := range v {
			out[i] = s
		}
		return out, nil
	case hostdb.Document:
		if v.IsMapping() {
			for _, sub := range v.Keys() {
				out = append(out, valueOf(sub))
			}
			return out, w.spend(len(out))
		}
		for _, sub := range v.Items() {
			out = append(out, valueOf(sub))
		}
		return out, w.spend(len(out))
	}
	return []any{v}, nil
}

// equal compares as people mean it: numbers with what looks like one, times with what reads as one, yes with true, and
// all else as text, in the writer's spelling.
func equal(w *row, a, b any) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	if isList(a) || isList(b) {
		return equalLists(w, a, b)
	}
	_, boolA := a.(bool)
	_, boolB := b.(bool)
	if boolA || boolB {
		x, okA := truthOf(a)
		y, okB := truthOf(b)
		return okA && okB && x == y, nil
	}
	c, ok := compare(a, b)
	return ok && c == 0, nil
}

func equalLists(w *row, a, b any) (bool, error) {
	if !isList(a) || !isList(b) {
		return false, nil
	}
	da, isA := a.(hostdb.Document)
	db, isB := b.(hostdb.Document)
	if isA && da.IsMapping() || isB && db.IsMapping() {
		return isA && isB && da.Equal(db), nil
	}
	x, err := items(w, a)
	if err != nil {
		return false, err
	}
	y, err := items(w, b)
	if err != nil || len(x) != len(y) {
		return false, err
	}
	for i := range x {
		if err := w.spend(1); err != nil {
			return false, err
		}
		if eq, err := equal(w, x[i], y[i]); !eq || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compare orders two single values; ok is false when nobody could say which is more.
func compare(a, b any) (c int, ok bool) {
	if a == nil || b == nil {
		return 0, false
	}
	_, timeA := a.(time.Time)
	_, timeB := b.(time.Time)
	_, spanA := a.(time.Duration)
	_, spanB := b.(time.Duration)
	switch {
	case timeA || timeB:
		x, okA := asTime(a)
		y, okB := asTime(b)
		return x.Compare(y), okA && okB
	case spanA || spanB:
		x, okA := asDuration(a)
		y, okB := asDuration(b)
		return cmp.Compare(x, y), okA && okB
	case isNumber(a) || isNumber(b) || looksLikeNumber(a) && looksLikeNumber(b):
		if x, is := a.(int); is {
			if y, is := b.(int); is {
				return cmp.Compare(x, y), true
			}
		}
		x, okA := numberOf(a)
		y, okB := numberOf(b)
		return cmp.Compare(x, y), okA && okB
	}
	x, okA := textOf(a)
	y, okB := textOf(b)
	return strings.Compare(x, y), okA && okB
}

// sortOrder orders values of a column: numbers before texts, nothing last.
func sortOrder(a, b any) int {
	rank := func(v any) int {
		switch {
		case v == nil:
			return 3
		case isList(v):
			return 2
		case isNumber(v) || looksLikeNumber(v):
			return 0
		}
		return 1
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	if c, ok := compare(a, b); ok {
		return c
	}
	x, _ := netip.ParseAddr(cellText(documentOf(a)))
	y, _ := netip.ParseAddr(cellText(documentOf(b)))
	return cmp.Or(x.Compare(y), strings.Compare(cellText(documentOf(a)), cellText(documentOf(b))))
}
