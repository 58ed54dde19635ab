package section

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
)

// TestEffectiveOrder follows one value through all the rules.
func TestEffectiveOrder(t *testing.T) {
	docs := func(m map[string]string) map[string]hostdb.Document {
		out := map[string]hostdb.Document{}
		for k, text := range m {
			out[k] = parse(t, text)
		}
		return out
	}
	v := write(t,
		docs(map[string]string{"h": "{Network: {IP: 10.0.0.1}, Puppet: {Parameters: {own: host}}}", "other": "{}"}),
		docs(map[string]string{
			"all":    "{Priority: 99, Puppet: {Parameters: {own: all, direct: all, high: all, low: all, all: all, cut: {x: 1}}}}",
			"direct": "{Priority: -5, Puppet: {Parameters: {own: direct, direct: direct}}, LB: {VIP: 10.0.0.9}}",
			"high":   "{Priority: 7, Puppet: {Parameters: {direct: high, high: high, list: [a], shape: text, cut: text}}, Backup: {Paths: /etc}}",
			"aaa":    "{Priority: 5, Puppet: {Parameters: {high: aaa, low: aaa, name: aaa, same: x, list: [b, c], shape: {a: 1}, cut: {y: 1}, null: }}}",
			"bbb":    "{Priority: 5, Puppet: {Parameters: {high: bbb, name: bbb, same: x, null: bbb}}}",
			"zzz":    "{Puppet: {Parameters: {low: zzz, shape: {b: 2}, map: {b: 2}}, Classes: {ntp: }}}",
			"none":   "null",
			"text":   "just a text",
			"leaf":   "{}",
			"far":    "{Puppet: {Parameters: {own: far}}}",
		}),
		map[string][]string{"direct": {"h"}, "leaf": {"h"}, "high": {"@leaf"}, "aaa": {"@leaf"}, "bbb": {"@leaf"}, "zzz": {"@leaf"},
			"none": {"@leaf"}, "text": {"@leaf"}, "far": {"other"}})
	r := Effective(v, "h")

	var got strings.Builder
	for _, s := range r.Sources {
		fmt.Fprintf(&got, "%s %s %d\n", s.ID, s.Rank, s.Priority)
	}
	got.WriteByte('\n')
	for _, s := range r.Settings {
		fmt.Fprintf(&got, "%s = %s from %s\n", s.Path, strings.TrimSpace(hostdb.NewDocument(hostdb.Leaf{Value: s.Value}).YAML()), s.From.ID)
	}
	for _, d := range r.Disagreements {
		fmt.Fprintf(&got, "\n%s: %s, not %s", d.Path, d.Used.ID, d.Other[0].ID)
	}
	want := `hosts/h host 0
tags/leaf direct 0
tags/direct direct -5
tags/all inherited 99
tags/high inherited 7
tags/aaa inherited 5
tags/bbb inherited 5
tags/none inherited 0
tags/text inherited 0
tags/zzz inherited 0

Backup/Paths = /etc from tags/high
Network/IP = 10.0.0.1 from hosts/h
Puppet/Classes/ntp = null from tags/zzz
Puppet/Parameters/all = all from tags/all
Puppet/Parameters/cut/x = 1 from tags/all
Puppet/Parameters/direct = direct from tags/direct
Puppet/Parameters/high = all from tags/all
Puppet/Parameters/list = - a from tags/high
Puppet/Parameters/low = all from tags/all
Puppet/Parameters/map/b = 2 from tags/zzz
Puppet/Parameters/name = aaa from tags/aaa
Puppet/Parameters/null = bbb from tags/bbb
Puppet/Parameters/own = host from hosts/h
Puppet/Parameters/same = x from tags/aaa
Puppet/Parameters/shape = text from tags/high

Puppet/Parameters/name: tags/aaa, not tags/bbb`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, problems := r.Sections(); len(problems) != 1 || problems[0].Path != hostdb.PathOf("Backup", "Repository") {
		t.Errorf("problems of all tags together: %v", problems)
	}
	if r := Effective(v, "nobody"); r.Document.Exists() || r.Sources != nil {
		t.Errorf("a host that is not there gets %s", r.Document.YAML())
	}
	if _, ok := r.Origin(hostdb.PathOf("LB")); ok {
		t.Error("a tag's own section reaches its member")
	}
}

// anyDocument draws small documents whose keys meet often.
func anyDocument() *rapid.Generator[hostdb.Document] {
	key := rapid.SampledFrom([]string{"Puppet", "a", "b", "DNS", "a b"})
	value := rapid.SampledFrom([]string{"x", "y", "null", "{}", "[]", "[x]", "1"})
	var tree func(depth int) *rapid.Generator[string]
	tree = func(depth int) *rapid.Generator[string] {
		if depth == 0 {
			return value
		}
		branch := rapid.Map(rapid.MapOfN(key, tree(depth-1), 0, 4), func(m map[string]string) string {
			var items []string
			for k, v := range m {
				items = append(items, k+": "+v)
			}
			slices.Sort(items)
			return "{" + strings.Join(items, ", ") + "}"
		})
		return rapid.OneOf(branch, branch, value)
	}
	return rapid.Map(tree(3), func(text string) hostdb.Document {
		doc, err := hostdb.ParseDocument([]byte(text))
		if err != nil {
			panic(err)
		}
		return doc
	})
}

func anyPart(rt *rapid.T, i int) part {
	s := Source{ID: fmt.Sprintf("tags/%02d", i), Rank: rapid.SampledFrom([]Rank{Inherited, Direct}).Draw(rt, "rank"),
		Priority: rapid.IntRange(0, 2).Draw(rt, "priority")}
	if i == 0 {
		s = Source{ID: "hosts/h", Rank: Own}
	}
	return part{s, anyDocument().Draw(rt, "doc")}
}

// hides reports whether p is stronger than who says s and has something else than a mapping above it.
func hides(p part, s Setting) bool {
	path := s.Path.Segments()
	for i := 1; i < len(path); i++ {
		if above := p.doc.At(path[:i]...); above.Exists() && !above.IsMapping() && !above.IsNull() && p.from.compare(s.From) < 0 {
			return true
		}
	}
	return false
}

// TestCombineProperties: the order of sources does not matter, every value is the one that the strongest source has at
// its place, nothing that is stronger hides it, no value stands above another, and a source that says nothing changes nothing.
func TestCombineProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var parts []part
		for i := range rapid.IntRange(0, 6).Draw(rt, "sources") {
			parts = append(parts, anyPart(rt, i))
		}
		r := combine("h", parts)

		shuffled := rapid.Permutation(parts).Draw(rt, "order")
		if again := combine("h", shuffled); !again.Document.Equal(r.Document) || !cmp.Equal(again.Settings, r.Settings) ||
			!cmp.Equal(again.Disagreements, r.Disagreements) {
			rt.Fatalf("another order gives\n%s, not\n%s", again.Document.YAML(), r.Document.YAML())
		}
		silent := part{Source{ID: "tags/silent", Rank: Direct, Priority: 9}, parse(t, "null")}
		if again := combine("h", append(slices.Clone(parts), silent)); !again.Document.Equal(r.Document) {
			rt.Fatalf("a silent tag gives\n%s, not\n%s", again.Document.YAML(), r.Document.YAML())
		}
		for i, s := range r.Settings {
			if i > 0 && (r.Settings[i-1].Path >= s.Path || r.Settings[i-1].Path.Above(s.Path)) {
				rt.Fatalf("%s stands before %s", r.Settings[i-1].Path, s.Path)
			}
			for _, p := range parts {
				v, leaf := p.doc.At(s.Path.Segments()...).Value()
				switch {
				case p.from == s.From && (!leaf || v != s.Value):
					rt.Fatalf("%s of %s is not %s", s.Path, p.from.ID, s.Value)
				case leaf && !v.IsNull() && p.from.compare(s.From) < 0:
					rt.Fatalf("%s comes from %s, but %s is stronger", s.Path, s.From.ID, p.from.ID)
				case hides(p, s):
					rt.Fatalf("%s of %s is hidden by %s", s.Path, s.From.ID, p.from.ID)
				}
			}
			if from, ok := r.Origin(s.Path); !ok || from != s.From {
				rt.Fatalf("origin of %s is %v, not %v", s.Path, from, s.From)
			}
		}
		for _, d := range r.Disagreements {
			for _, o := range d.Other {
				if !o.equal(d.Used) || d.Used.compare(o) >= 0 {
					rt.Fatalf("%v and %v cannot disagree", d.Used, o)
				}
			}
		}
	})
}
