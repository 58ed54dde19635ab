package query

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// Names of our own calls begin with a blank: nobody can write them.
const (
	opLook     = " look "
	opVariable = " variable "
	opTruth    = " truth"
	opIndex    = " index"
	opMinus    = " minus"
	opMatches  = " matches"
	opList     = " list"
	opStep     = " step"
)

// operators are the calls that stand for the operators of expr-lang.
var operators = map[string]string{
	"==": " ==", "!=": " !=", "<": " <", "<=": " <=", ">": " >", ">=": " >=", "in": " in",
	"contains": " contains", "startsWith": " startsWith", "endsWith": " endsWith",
	"+": " plus", "-": opMinus, "*": " times", "/": " over", "%": " modulo",
}

// comparisons are the operators that give true or false.
var comparisons = map[string]bool{
	"==": true, "!=": true, "<": true, "<=": true, ">": true, ">=": true, "in": true,
	"contains": true, "startsWith": true, "endsWith": true,
}

type callFunc func(w *row, args []any) (any, error)

// function is what an expression can call.
type function struct {
	call     callFunc
	min, max int    // arguments
	usage    string // an example, for errors
	truth    bool   // whether it gives true or false
	folds    bool   // whether it needs nothing but its arguments, so that literals are checked at once
	prepare  func(last any) (any, error)
}

func (f function) takes() string {
	switch {
	case f.min != f.max:
		return fmt.Sprintf("%d or %d values", f.min, f.max)
	case f.min == 0:
		return "no value"
	case f.min == 1:
		return "one value"
	}
	return fmt.Sprintf("%d values", f.min)
}

// counted is f as the machine calls it: the row first, and each call a step.
func (f function) counted() func(params ...any) (any, error) {
	return func(params ...any) (any, error) {
		w := params[0].(*row)
		if err := w.spend(1); err != nil {
			return nil, err
		}
		return f.call(w, params[1:])
	}
}

// words are the names that an expression about a namespace knows.
type words struct {
	variables map[string]callFunc
	functions map[string]function
	keys      []string // of documents, from the schema
}

func wordsOf(ns string) *words {
	w := &words{variables: map[string]callFunc{"name": variableName}, functions: maps.Clone(functions)}
	switch ns {
	case hostdb.Hosts:
		maps.Copy(w.variables, hostVariables)
		maps.Copy(w.functions, hostFunctions)
	case hostdb.Tags:
		maps.Copy(w.variables, listVariables)
		w.variables["sections"] = variableSections
	default:
		maps.Copy(w.variables, listVariables)
	}
	w.keys = schemaKeys()[ns]
	return w
}

// names are the variables and known keys, for suggestions.
func (w *words) names(lets []string) []string {
	out := slices.Concat(slices.Collect(maps.Keys(w.variables)), w.keys, lets, []string{"self", "true", "false"})
	if w.functions["tag"].call != nil {
		out = append(out, "effective")
	}
	slices.Sort(out)
	return out
}

func (w *words) functionNames() []string {
	out := slices.Sorted(maps.Keys(w.functions))
	out = slices.AppendSeq(out, maps.Keys(predicates))
	slices.Sort(out)
	return out
}

// all are the functions of the machine by name.
func (w *words) all() map[string]function {
	out := maps.Clone(w.functions)
	maps.Copy(out, internals)
	for name, get := range w.variables {
		out[opVariable+name] = function{call: get}
	}
	return out
}

// schemaKeys are the top-level keys that hostmesh knows, by namespace.
var schemaKeys = sync.OnceValue(func() map[string][]string {
	out := map[string][]string{}
	for _, d := range section.Schema() {
		if d.Name != "Host" && d.Name != "Tag" {
			out[d.Namespace] = append(out[d.Namespace], d.Name)
			continue
		}
		for _, f := range d.Fields {
			key, _, _ := strings.Cut(f.Path, "/")
			if !slices.Contains(out[d.Namespace], key) {
				out[d.Namespace] = append(out[d.Namespace], key)
			}
		}
	}
	return out
})

func variableName(w *row, _ []any) (any, error) { return w.key, nil }

var hostVariables = map[string]callFunc{
	"tags":  func(w *row, _ []any) (any, error) { return listed(w.allTags()) },
	"vms":   func(w *row, _ []any) (any, error) { return listed(w.run.ix.vmsOn(w.key), nil) },
	"zones": func(w *row, _ []any) (any, error) { return listed(w.run.ix.zonesOf(w.key), nil) },
	"address": func(w *row, _ []any) (any, error) {
		for _, key := range [...]string{"IP", "IPv6"} {
			if v := valueOf(w.doc.At("Network", key)); v != nil {
				return v, nil
			}
		}
		return nil, nil
	},
	"addresses": func(w *row, _ []any) (any, error) {
		out := []string{}
		add := func(doc hostdb.Document) {
			for _, key := range [...]string{"IP", "IPv6"} {
				if a := doc.Text(key); a != "" && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
		add(w.doc.At("Network"))
		for _, port := range w.doc.At("Interfaces").Keys() {
			add(port)
		}
		return out, w.spend(len(out) * len(out))
	},
}

// listVariables are those of keys that have members.
var listVariables = map[string]callFunc{
	"members": func(w *row, _ []any) (any, error) {
		return listed(w.run.view.Members(w.run.q.opts.In, w.key), nil)
	},
	"hosts": func(w *row, _ []any) (any, error) {
		return len(w.run.view.Members(w.run.q.opts.In, w.key)), nil
	},
	"direct": func(w *row, _ []any) (any, error) {
		out := []string{}
		for _, m := range w.run.view.DirectMembers(w.run.q.opts.In, w.key) {
			if m.Name != "" {
				out = append(out, m.Name)
			}
		}
		return out, w.spend(len(out))
	},
}

func variableSections(w *row, _ []any) (any, error) {
	out := []string{}
	for key := range w.doc.Keys() {
		out = append(out, key)
	}
	return out, nil
}

// listed is a list that is never nil: [] == nil is false.
func listed(list []string, err error) (any, error) {
	if list == nil {
		list = []string{}
	}
	return list, err
}

var hostFunctions = map[string]function{
	"tag": {min: 1, max: 1, truth: true, usage: `tag("web")`, call: func(w *row, args []any) (any, error) {
		name, ok := textOf(args[0])
		return ok && w.in(name), nil
	}},
}

// functions are those that every namespace has.
var functions = map[string]function{
	"at": {min: 1, max: 1, usage: `at("Physical Location/Rack Number")`, call: func(w *row, args []any) (any, error) {
		text, _ := textOf(args[0])
		return valueOf(w.doc.At(strings.Split(text, "/")...)), nil
	}},
	"has": {min: 1, max: 1, truth: true, usage: "has(Network.IPv6)", call: func(_ *row, args []any) (any, error) {
		return args[0] != nil, nil
	}},
	"len":    {call: callLen, min: 1, max: 1, usage: "len(vms)"},
	"keys":   {call: callKeys, min: 1, max: 1, usage: "keys(Interfaces)"},
	"values": {call: callValues, min: 1, max: 1, usage: "values(Interfaces)"},
	"number": {min: 1, max: 1, usage: "number(VM.CPUs)", call: func(_ *row, args []any) (any, error) { return arithmetic(args[0]), nil }},
	"text": {min: 1, max: 1, usage: "text(VM.CPUs)", call: func(w *row, args []any) (any, error) {
		if s, ok := showText(args[0]); ok {
			return s, w.produce(len(s))
		}
		return nil, nil
	}},
	"lower": {call: mapText(strings.ToLower), min: 1, max: 1, usage: "lower(Owner)"},
	"upper": {call: mapText(strings.ToUpper), min: 1, max: 1, usage: "upper(Owner)"},
	"trim":  {call: mapText(strings.TrimSpace), min: 1, max: 1, usage: "trim(Owner)"},
	"split": {call: callSplit, min: 2, max: 2, usage: `split(name, ".")`},
	"join":  {call: callJoin, min: 2, max: 2, usage: `join(tags, " ")`},
	"bytes": {call: callBytes, min: 1, max: 2, usage: `bytes(VM.Memory), or bytes(VM.Memory, "GB") where numbers stand without a unit`},
	"size":  {call: callBytes, min: 1, max: 1, folds: true, usage: `size("24GB"); units are B, kB, MB, GB, TB, PB and KiB, MiB, GiB, TiB, PiB`},
	"cidr": {call: callCIDR, min: 2, max: 2, truth: true, usage: `cidr(address, "10.1.0.0/16")`, prepare: func(last any) (any, error) {
		p, err := netip.ParsePrefix(fmt.Sprint(last))
		if err != nil {
			return nil, fmt.Errorf("%q is no network: write it as in 10.1.0.0/16 or 2001:db8::/32", fmt.Sprint(last))
		}
		return p.Masked(), nil
	}},
	"duration": {min: 1, max: 1, folds: true, usage: `duration("14d"); units are w, d, h, m, s, ms`, call: func(_ *row, args []any) (any, error) {
		if d, ok := asDuration(args[0]); ok {
			return d, nil
		}
		return nil, nil
	}},
	"date": {min: 1, max: 1, folds: true, usage: `date("2031-12-31") or date("2031-12-31T12:00:00Z")`, call: func(_ *row, args []any) (any, error) {
		if t, ok := asTime(args[0]); ok {
			return t, nil
		}
		return nil, nil
	}},
	"now": {usage: "now()", call: func(w *row, _ []any) (any, error) { return w.run.q.opts.Clock().UTC().Truncate(time.Second), nil }},
}

// internals are the calls that only the rewriter makes.
var internals = map[string]function{
	opLook + "self": {call: func(w *row, args []any) (any, error) { return valueOf(w.doc.At(args[0].(*path).keys...)), nil }},
	opLook + "effective": {call: func(w *row, args []any) (any, error) {
		doc, err := w.base("effective")
		return valueOf(doc.At(args[0].(*path).keys...)), err
	}},
	opTruth:       {call: callTruth},
	opIndex:       {call: callIndex},
	opList:        {call: callList},
	opStep:        {call: func(_ *row, args []any) (any, error) { return args[0], nil }},
	opMatches:     {call: callMatches},
	" ==":         {call: func(w *row, args []any) (any, error) { return equal(w, args[0], args[1]) }},
	" !=":         {call: func(w *row, args []any) (any, error) { eq, err := equal(w, args[0], args[1]); return !eq, err }},
	" <":          {call: ordered(func(c int) bool { return c < 0 })},
	" <=":         {call: ordered(func(c int) bool { return c <= 0 })},
	" >":          {call: ordered(func(c int) bool { return c > 0 })},
	" >=":         {call: ordered(func(c int) bool { return c >= 0 })},
	" in":         {call: func(w *row, args []any) (any, error) { return within(w, args[0], args[1]) }},
	" contains":   {call: callContains},
	" startsWith": {call: edge(strings.HasPrefix)},
	" endsWith":   {call: edge(strings.HasSuffix)},
	" plus":       {call: callPlus}, opMinus: {call: callMinus},
	" times": {call: compute('*')}, " over": {call: compute('/')}, " modulo": {call: compute('%')},
}

// Functions are the names of what an expression about hosts can call, sorted.
func Functions() []string { return wordsOf(hostdb.Hosts).functionNames() }

// Variables are the names that an expression about a namespace knows besides the keys of documents, sorted.
func Variables(ns string) []string {
	out := slices.Collect(maps.Keys(wordsOf(ns).variables))
	out = append(out, "self")
	if ns == hostdb.Hosts {
		out = append(out, "effective")
	}
	slices.Sort(out)
	return out
}
