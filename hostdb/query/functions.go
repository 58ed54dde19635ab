package query

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"hostmesh/hostdb"
)

// callTruth makes true or false of a value. A document's text that is neither is false, and counted: the data of one
// host must not break everybody's query.
func callTruth(w *row, args []any) (any, error) {
	v := args[0]
	if v == nil {
		return false, nil
	}
	if truth, ok := truthOf(v); ok {
		return truth, nil
	}
	switch v := v.(type) {
	case hostdb.Value:
		w.warn(args[1].(position), v.Scalar())
		return false, nil
	case hostdb.Document:
		w.warn(args[1].(position), cellText(v))
		return false, nil
	case []string, []any:
		return false, errors.New("this is a list, neither true nor false: compare its len(...), or ask with in or any(...)")
	}
	text, _ := showText(v)
	return false, fmt.Errorf("this is %q, neither true nor false: compare it with something", text)
}

func callIndex(w *row, args []any) (any, error) {
	switch at := args[1].(type) {
	case int:
		list, err := items(w, args[0])
		if err != nil || at >= len(list) || -at > len(list) {
			return nil, err
		}
		if at < 0 {
			at += len(list)
		}
		return list[at], nil
	default:
		key, ok := textOf(at)
		doc, is := args[0].(hostdb.Document)
		if !ok || !is {
			return nil, nil
		}
		return valueOf(doc.At(key)), nil
	}
}

func callList(w *row, args []any) (any, error) {
	if list, ok := args[0].([]string); ok {
		return list, nil
	}
	return items(w, args[0])
}

func callMatches(w *row, args []any) (any, error) {
	text, ok := textOf(args[0])
	if !ok {
		return false, nil
	}
	return args[1].(*regexp.Regexp).MatchString(text), w.spend(len(text) >> 3)
}

func ordered(holds func(int) bool) callFunc {
	return func(_ *row, args []any) (any, error) {
		c, ok := compare(args[0], args[1])
		return ok && holds(c), nil
	}
}

// within asks whether a value is an item of a list, or a key of a mapping.
func within(w *row, v, list any) (bool, error) {
	switch list := list.(type) {
	case []string:
		if err := w.spend(len(list) >> 2); err != nil {
			return false, err
		}
		text, ok := showText(v)
		return ok && slices.Contains(list, text), nil
	case hostdb.Document:
		if list.IsMapping() {
			key, ok := textOf(v)
			return ok && list.At(key).Exists(), nil
		}
	}
	all, err := items(w, list)
	if err != nil {
		return false, err
	}
	for _, item := range all {
		if err := w.spend(1); err != nil {
			return false, err
		}
		if eq, err := equal(w, v, item); eq || err != nil {
			return eq, err
		}
	}
	return false, nil
}

func callContains(w *row, args []any) (any, error) {
	if isList(args[0]) {
		return within(w, args[1], args[0])
	}
	text, ok := showText(args[0])
	part, is := showText(args[1])
	return ok && is && strings.Contains(text, part), w.spend(len(text) >> 6)
}

func edge(has func(text, part string) bool) callFunc {
	return func(_ *row, args []any) (any, error) {
		text, ok := showText(args[0])
		part, is := showText(args[1])
		return ok && is && has(text, part), nil
	}
}

// callPlus adds numbers, durations to times, and texts.
func callPlus(w *row, args []any) (any, error) {
	a, b := args[0], args[1]
	if a == nil || b == nil {
		return nil, nil
	}
	switch {
	case isNumber(a) || isNumber(b) || looksLikeNumber(a) && looksLikeNumber(b):
		return compute('+')(w, args)
	case isTime(a):
		if d, ok := asDuration(b); ok {
			return a.(time.Time).Add(d), nil
		}
		return nil, nil
	case isTime(b):
		return callPlus(w, []any{b, a})
	}
	if x, ok := a.(time.Duration); ok {
		if y, ok := asDuration(b); ok {
			return x + y, nil
		}
		return nil, nil
	}
	x, okA := showText(a)
	y, okB := showText(b)
	if !okA || !okB {
		return nil, nil
	}
	if err := w.produce(len(x) + len(y)); err != nil {
		return nil, err
	}
	return x + y, nil
}

// callMinus subtracts numbers, durations from times, and times from times.
func callMinus(w *row, args []any) (any, error) {
	a, b := args[0], args[1]
	if !isTime(a) && !isTime(b) {
		if x, ok := a.(time.Duration); ok {
			if y, ok := asDuration(b); ok {
				return x - y, nil
			}
			return nil, nil
		}
		return compute('-')(w, args)
	}
	if d, ok := b.(time.Duration); ok && isTime(a) {
		return a.(time.Time).Add(-d), nil
	}
	x, okA := asTime(a)
	y, okB := asTime(b)
	if okA && okB {
		return x.Sub(y), nil
	}
	if d, ok := asDuration(b); ok && okA {
		return x.Add(-d), nil
	}
	return nil, nil
}

func isTime(v any) bool {
	_, ok := v.(time.Time)
	return ok
}

// compute is arithmetic; nil when a side is no number, or there is no result.
func compute(op byte) callFunc {
	return func(_ *row, args []any) (any, error) {
		x, okA := numberOf(args[0])
		y, okB := numberOf(args[1])
		if !okA || !okB {
			return nil, nil
		}
		switch op {
		case '+':
			return tidy(x + y), nil
		case '-':
			return tidy(x - y), nil
		case '*':
			return tidy(x * y), nil
		case '/':
			return tidy(x / y), nil
		}
		return tidy(math.Mod(x, y)), nil
	}
}

func callLen(w *row, args []any) (any, error) {
	switch v := args[0].(type) {
	case nil:
		return 0, nil
	case []string:
		return len(v), nil
	case hostdb.Document:
		list, err := items(w, v)
		return len(list), err
	case []any:
		return len(v), nil
	}
	text, _ := showText(args[0])
	return utf8.RuneCountInString(text), nil
}

func callKeys(w *row, args []any) (any, error) {
	out := []string{}
	if doc, ok := args[0].(hostdb.Document); ok {
		for key := range doc.Keys() {
			out = append(out, key)
		}
	}
	return out, w.spend(len(out))
}

func callValues(w *row, args []any) (any, error) {
	if !isList(args[0]) {
		return []any{}, nil
	}
	return items(w, args[0])
}

func mapText(f func(string) string) callFunc {
	return func(w *row, args []any) (any, error) {
		text, ok := showText(args[0])
		if !ok {
			return nil, nil
		}
		return f(text), w.produce(len(text))
	}
}

func callSplit(w *row, args []any) (any, error) {
	text, ok := showText(args[0])
	by, is := showText(args[1])
	if !ok || !is || by == "" {
		return []string{}, nil
	}
	if err := w.produce(16 * (strings.Count(text, by) + 1)); err != nil {
		return nil, err
	}
	return strings.Split(text, by), nil
}

func callJoin(w *row, args []any) (any, error) {
	list, err := items(w, args[0])
	if err != nil {
		return nil, err
	}
	by, _ := showText(args[1])
	var b strings.Builder
	for i, item := range list {
		if i > 0 {
			b.WriteString(by)
		}
		text, _ := showText(item)
		if err := w.produce(len(text) + len(by) + 1); err != nil {
			return nil, err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func callCIDR(w *row, args []any) (any, error) {
	prefix, ready := args[1].(netip.Prefix)
	if !ready {
		text, _ := textOf(args[1])
		var err error
		if prefix, err = netip.ParsePrefix(strings.TrimSpace(text)); err != nil {
			return false, nil
		}
	}
	list, err := items(w, args[0])
	if err != nil {
		return false, err
	}
	for _, item := range list {
		if err := w.spend(1); err != nil {
			return false, err
		}
		text, _ := textOf(item)
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil && prefix.Contains(a.Unmap()) {
			return true, nil
		}
	}
	return false, nil
}

// sizeUnits are in bytes, by lower case. Those with an i count in powers of 1024. A letter alone is not among them:
// 24G is one thing to some and another to others.
var sizeUnits = map[string]float64{
	"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50,
}

// callBytes reads a size as inventories write it: 24 GB, 24576 MB, 8GiB, 12 x 4GB. nil when it cannot be read.
func callBytes(_ *row, args []any) (any, error) {
	bare := 0.0
	if len(args) > 1 {
		unit, _ := textOf(args[1])
		known := false
		if bare, known = sizeUnits[strings.ToLower(strings.TrimSpace(unit))]; !known {
			return nil, fmt.Errorf("%q is no unit of sizes: they are B, kB, MB, GB, TB, PB and KiB, MiB, GiB, TiB, PiB", unit)
		}
	}
	if isNumber(args[0]) {
		n, _ := numberOf(args[0])
		if bare != 0 {
			n *= bare
		}
		return tidy(n), nil
	}
	text, ok := textOf(args[0])
	if !ok || len(text) > 80 {
		return nil, nil
	}
	count := 1.0
	if before, after, multiple := strings.Cut(text, "x"); multiple {
		n, err := strconv.ParseUint(strings.TrimSpace(before), 10, 32)
		if err != nil {
			return nil, nil
		}
		count, text = float64(n), after
	}
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	unit := ""
	if end >= 0 {
		text, unit = text[:end], strings.ToLower(strings.TrimSpace(text[end:]))
	}
	n, err := strconv.ParseFloat(text, 64)
	factor, known := sizeUnits[unit]
	if unit == "" {
		factor, known = bare, bare != 0
	}
	if err != nil || !known {
		return nil, nil
	}
	return tidy(n * factor * count), nil
}
