package nft

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
)

// family is one of the two tables: IPv4 and IPv6 addresses differ in length, and so do keys.
type family string

const (
	ip4 family = "ip"
	ip6 family = "ip6"
)

// ruleset is what one of our tables has, or should have. nil = there is no table.
type ruleset struct {
	family   family
	chains   map[string]*chain
	maps     map[string]*set
	counters map[string]count // they are not compared
}

type chain struct {
	hook  *hook // nil = it is reached from another
	rules []rule
	text  []string // the rules as text; of what was read, all there is
}

// hook is where the kernel comes in. Two that differ make a new table: a hook cannot be moved.
type hook struct {
	kind     string // nat or filter
	num      uint32
	priority int32
	policy   uint32 // 1 = accept
}

type rule []expr.Any

// set is a set, or a map when its values are not empty.
type set struct {
	kind  setKind
	elems map[string]string // both as the kernel has them; of verdict maps the value is text, such as "goto x"
}

type setKind string

const (
	places   setKind = "set"      // keys alone
	verdicts setKind = "verdicts" // address, protocol, port -> chain
	targets  setKind = "targets"  // slot -> address, port
)

type count struct{ packets, bytes uint64 }

// says is what a chain's rules are, as text: see exprText.
func (c *chain) says(f family) []string {
	if c.text != nil || len(c.rules) == 0 {
		return c.text
	}
	for _, r := range c.rules {
		text := ""
		for _, e := range r {
			raw, err := expr.Marshal(byte(f.layout().nat), e)
			if err != nil {
				text += "[" + err.Error() + "]" // a commit says it, too
				continue
			}
			text += exprText(raw)
		}
		c.text = append(c.text, text)
	}
	return c.text
}

func (c *chain) sameHook(d *chain) bool {
	if c.hook == nil || d.hook == nil {
		return c.hook == d.hook
	}
	return *c.hook == *d.hook
}

// verb is what one step of a transaction does.
type verb string

const (
	addTable    verb = "add table"
	delTable    verb = "delete table"
	addCounter  verb = "add counter"
	delCounter  verb = "delete counter"
	addSet      verb = "add set"
	delSet      verb = "delete set"
	addChain    verb = "add chain"
	delChain    verb = "delete chain"
	setRules    verb = "set rules"
	addElements verb = "add elements"
	delElements verb = "delete elements"
)

// step is one step of a transaction. Steps have an order that the kernel accepts: nothing is named before it is there, or goes while it is named.
type step struct {
	verb  verb
	name  string
	chain *chain            // addChain, setRules
	kind  setKind           // addSet, addElements, delElements
	elems map[string]string // addElements, delElements
	count count             // addCounter
}

func (s step) String() string {
	text := string(s.verb)
	if s.name != "" {
		text += " " + s.name
	}
	if s.elems != nil {
		text += fmt.Sprintf(" (%d)", len(s.elems))
	}
	return text
}

// diff is how have becomes want, in one transaction. Both may be nil. Where only elements and flow counts differ, nothing else is touched: packets on
// their way see the old element or the new one, never neither.
func diff(have, want *ruleset) []step {
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		return []step{{verb: delTable}}
	case have == nil:
		return build(want, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(want.chains)) {
		if is := have.chains[name]; is != nil && !is.sameHook(want.chains[name]) {
			return anew(have, want)
		}
	}
	for name, s := range want.maps {
		if is := have.maps[name]; is != nil && is.kind != s.kind {
			return anew(have, want)
		}
	}
	var steps []step
	for _, name := range slices.Sorted(maps.Keys(want.counters)) {
		if _, there := have.counters[name]; !there {
			steps = append(steps, step{verb: addCounter, name: name})
		}
	}
	names := slices.Sorted(maps.Keys(want.maps))
	for _, name := range names {
		if have.maps[name] == nil {
			steps = append(steps, step{verb: addSet, name: name, kind: want.maps[name].kind})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.chains)) {
		if have.chains[name] == nil {
			steps = append(steps, step{verb: addChain, name: name, chain: want.chains[name]})
		}
	}
	// What is looked up at last is filled first.
	for _, name := range names {
		if want.maps[name].kind == targets {
			steps = append(steps, elements(name, have.maps[name], want.maps[name])...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.chains)) {
		is, c := have.chains[name], want.chains[name]
		if is == nil && len(c.rules) > 0 || is != nil && !slices.Equal(is.says(want.family), c.says(want.family)) {
			steps = append(steps, step{verb: setRules, name: name, chain: c})
		}
	}
	for _, name := range names {
		if want.maps[name].kind != targets {
			steps = append(steps, elements(name, have.maps[name], want.maps[name])...)
		}
	}
	// A chain that goes may be named by another that goes, and rules name sets and counters.
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(have.chains)) {
		if want.chains[name] == nil {
			gone = append(gone, name)
			steps = append(steps, step{verb: setRules, name: name, chain: &chain{}})
		}
	}
	// A map of verdicts that goes names chains that may go with it.
	for _, name := range slices.Sorted(maps.Keys(have.maps)) {
		if want.maps[name] == nil {
			steps = append(steps, step{verb: delSet, name: name})
		}
	}
	for _, name := range gone {
		steps = append(steps, step{verb: delChain, name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(have.counters)) {
		if _, stays := want.counters[name]; !stays {
			steps = append(steps, step{verb: delCounter, name: name})
		}
	}
	return steps
}

// anew is want in the place of have, whatever that is.
func anew(have, want *ruleset) []step {
	if have == nil || want == nil {
		return diff(have, want)
	}
	return append([]step{{verb: delTable}}, build(want, have.counters)...)
}

// build is all of want, from nothing, with counters going on from what they were.
func build(want *ruleset, were map[string]count) []step {
	steps := []step{{verb: addTable}}
	for _, s := range diff(&ruleset{family: want.family}, want) {
		if s.verb == addCounter {
			s.count = were[s.name]
		}
		steps = append(steps, s)
	}
	return steps
}

func elements(name string, have, want *set) []step {
	if have == want {
		return nil // sets do not change once they are made
	}
	del, add := make(map[string]string), make(map[string]string)
	if have == nil {
		have = &set{}
	}
	for k, v := range have.elems {
		if w, stays := want.elems[k]; !stays || w != v {
			del[k] = v
		}
	}
	for k, v := range want.elems {
		if w, there := have.elems[k]; !there || w != v {
			add[k] = v
		}
	}
	var steps []step
	if len(del) > 0 {
		steps = append(steps, step{verb: delElements, name: name, kind: want.kind, elems: del})
	}
	if len(add) > 0 {
		steps = append(steps, step{verb: addElements, name: name, kind: want.kind, elems: add})
	}
	return steps
}

// dump is a ruleset as text, for tests and for the log of a drift.
func (r *ruleset) dump() string {
	if r == nil {
		return "no table\n"
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.counters)) {
		fmt.Fprintf(&b, "counter %s\n", name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.maps)) {
		s := r.maps[name]
		fmt.Fprintf(&b, "%s %s\n", s.kind, name)
		for _, k := range slices.Sorted(maps.Keys(s.elems)) {
			v := s.elems[k]
			if s.kind == targets {
				v = hex.EncodeToString([]byte(v))
			}
			fmt.Fprintf(&b, "\t%x %s\n", k, v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.chains)) {
		c := r.chains[name]
		fmt.Fprintf(&b, "chain %s", name)
		if c.hook != nil {
			fmt.Fprintf(&b, " %+v", *c.hook)
		}
		b.WriteByte('\n')
		for _, text := range c.says(r.family) {
			fmt.Fprintf(&b, "\t%s\n", text)
		}
	}
	return b.String()
}
