package section

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

// TestExplainLosers: what lost stands with what it lost to, also where a mapping meets what is none.
func TestExplainLosers(t *testing.T) {
	source := func(id string, rank Rank, priority int, text string) part {
		return part{Source{id, rank, priority}, parse(t, text)}
	}
	e := explainParts("h", []part{
		source("tags/b", Direct, 0, "{Puppet: {Parameters: {same: 1, list: [x], other: b}}, LB: {VIP: 10.0.0.1}, Priority: 3}"),
		source("hosts/h", Own, 0, "{Puppet: {Parameters: {same: 1, shape: {a: 1, b: 2}, none: }}}"),
		source("tags/a", Direct, 0, "{Puppet: {Parameters: {other: a, shape: text, list: [y], empty: {}}}}"),
		source("tags/c", Inherited, 9, "{Puppet: {Parameters: {shape: {c: 3}, none: c, empty: {x: 1}, same: 2}}}"),
	})
	var got strings.Builder
	for _, s := range e.Settings {
		fmt.Fprintf(&got, "%s %s:", s.Path, s.From.ID)
		for _, l := range s.Overridden {
			fmt.Fprintf(&got, " %s %s %v;", l.Path, l.From.ID, l.Equal)
		}
		got.WriteByte('\n')
	}
	want := `Puppet/Parameters/empty/x tags/c:
Puppet/Parameters/list tags/a: Puppet/Parameters/list tags/b true;
Puppet/Parameters/none tags/c:
Puppet/Parameters/other tags/a: Puppet/Parameters/other tags/b true;
Puppet/Parameters/same hosts/h: Puppet/Parameters/same tags/c false;
Puppet/Parameters/shape/a hosts/h: Puppet/Parameters/shape tags/a false; Puppet/Parameters/shape/c tags/c false;
Puppet/Parameters/shape/b hosts/h:
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// TestExplainLosesNothing: every value of every source reaches the host, is the same as what does, or is told to have lost
// to a stronger one; and what tags disagree about without the host is what they disagree about with it, unless it decides.
func TestExplainLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var parts []part
		for i := range rapid.IntRange(1, 6).Draw(rt, "sources") {
			parts = append(parts, anyPart(rt, i))
		}
		e := explainParts("h", parts)
		for _, p := range parts {
			for path, value := range p.doc.Leaves() {
				if path == "" || value.IsNull() || hostdb.NewDocument(hostdb.Leaf{Value: value}).IsMapping() || !combines(path.Segments()[0]) {
					continue
				}
				found := slices.ContainsFunc(e.Settings, func(s Explained) bool {
					return s.Path == path && (s.From == p.from || s.Value == value) || slices.ContainsFunc(s.Overridden, func(l Loser) bool {
						return l.Path == path && l.From == p.from && l.Value == value
					})
				})
				if !found {
					rt.Fatalf("%s of %s neither reaches the host nor loses", path, p.from.ID)
				}
			}
		}
		whole := combine("h", parts).Disagreements
		for _, d := range combine("", parts[1:]).Disagreements {
			with := slices.ContainsFunc(whole, func(o Disagreement) bool { return o.Path == d.Path && o.Used == d.Used })
			if with == Decides(parts[0].doc, d.Path) {
				rt.Fatalf("%s: the host has the disagreement: %v, and its document decides: %v", d.Path, with, Decides(parts[0].doc, d.Path))
			}
		}
	})
}
