package mysqlha

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func gtids(t testing.TB, flavour, text string) GTIDs {
	t.Helper()
	g, err := ParseGTIDs(flavour, text)
	if err != nil {
		t.Fatalf("%s %q: %v", flavour, text, err)
	}
	return g
}

const uuidA, uuidB = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-11e1-9e33-c80aa9429563"

func TestGTIDs(t *testing.T) {
	for _, c := range []struct {
		flavour, a, b      string
		contains, reaches  bool
		minus, union, more string
	}{
		{MariaDB, "0-1-100", "0-1-100", true, true, "", "0-1-100", "0-1-100"},
		{MariaDB, "0-1-100", "", true, true, "0-1-100", "0-1-100", "0-1-100"},
		{MariaDB, "", "0-1-1", false, false, "", "0-1-1", "0-1-1"},
		{MariaDB, "0-1-100,0-2-105", "0-1-103", false, true, "0-1-100,0-2-105", "0-1-103,0-2-105", "0-2-105"}, // errant, whatever the numbers say
		{MariaDB, "0-1-103", "0-1-100,0-2-105", false, false, "0-1-103", "0-1-103,0-2-105", "0-2-105"},
		{MariaDB, "0-1-5,1-1-7", "1-1-6", true, true, "0-1-5,1-1-7", "0-1-5,1-1-7", "0-1-5,1-1-7"},
		{MariaDB, "0-1-5", "1-1-6", false, false, "0-1-5", "0-1-5,1-1-6", "0-1-5,1-1-6"},
		{MySQL8, uuidA + ":1-10", uuidA + ":3-5:7", true, true, uuidA + ":1-2:6:8-10", uuidA + ":1-10", uuidA + ":1-10"},
		{MySQL8, uuidA + ":1-10", uuidA + ":5-11", false, false, uuidA + ":1-4", uuidA + ":1-11", uuidA + ":1-11"},
		{MySQL8, uuidA + ":1-10", uuidB + ":1", false, false, uuidA + ":1-10", uuidA + ":1-10," + uuidB + ":1", uuidA + ":1-10," + uuidB + ":1"},
		{MySQL8, uuidA + ":1-3:4-6", uuidA + ":blue:1-2", false, false, uuidA + ":1-6", uuidA + ":1-6," + uuidA + ":blue:1-2", uuidA + ":1-6," + uuidA + ":blue:1-2"},
	} {
		a, b := gtids(t, c.flavour, c.a), gtids(t, c.flavour, c.b)
		if got := a.Contains(b); got != c.contains {
			t.Errorf("%s contains %s: %v", c.a, c.b, got)
		}
		if got := a.Reaches(b); got != c.reaches {
			t.Errorf("%s reaches %s: %v", c.a, c.b, got)
		}
		minus := a.Minus(b).String()
		if want := c.minus; c.flavour == MariaDB && c.b == c.a {
			want = ""
			if minus != want {
				t.Errorf("%s minus itself: %s", c.a, minus)
			}
		} else if c.flavour == MySQL8 && minus != want {
			t.Errorf("%s minus %s: %s, want %s", c.a, c.b, minus, want)
		}
		if got := a.Union(b).String(); got != c.union {
			t.Errorf("%s with %s: %s, want %s", c.a, c.b, got, c.union)
		}
		if got := a.Further(b).String(); got != c.more {
			t.Errorf("further of %s and %s: %s, want %s", c.a, c.b, got, c.more)
		}
	}
}

func TestErrantIsAskedByMembership(t *testing.T) {
	source := Facts{Flavour: MariaDB, ServerID: 2, Binlog: "0-1-100,0-2-105"}
	for _, c := range []struct {
		binlog string
		later  bool
		want   string
	}{
		{"0-1-100,0-2-104", true, ""},
		{"0-1-103", true, "0-1-103"},
		{"0-1-103", false, "0-1-103"},
		{"0-1-100,0-2-109", false, ""}, // written while the two were asked
		{"0-1-100,0-2-109", true, "0-2-109"},
		{"0-1-100,0-3-1", false, "0-3-1"},
	} {
		got, err := Errant(Facts{Flavour: MariaDB, Binlog: c.binlog}, source, c.later)
		if err != nil || got.String() != c.want {
			t.Errorf("%s, later %v: %s, %v; want %s", c.binlog, c.later, got, err, c.want)
		}
	}
}

func TestGTIDsThatAreNone(t *testing.T) {
	for _, c := range [][2]string{
		{MariaDB, "0-1"}, {MariaDB, "a-1-2"}, {MariaDB, "0-1-2-3"}, {MariaDB, "4294967296-1-2"}, {MariaDB, "0-1-18446744073709551616"}, {MariaDB, uuidA + ":1"},
		{MySQL8, "0-1-2"}, {MySQL8, uuidA}, {MySQL8, uuidA + ":0-1"}, {MySQL8, uuidA + ":5-1"}, {MySQL8, uuidA + ":1-99999999999999999999"}, {MySQL8, uuidA + ":-"},
		{"postgres", ""},
	} {
		if g, err := ParseGTIDs(c[0], c[1]); err == nil {
			t.Errorf("%s %q was taken for %s", c[0], c[1], g)
		}
	}
}

func TestSetsKeepTheirLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flavour := rapid.SampledFrom([]string{MariaDB, MySQL8}).Draw(t, "flavour")
		set := func(name string) GTIDs {
			var g GTIDs
			for range rapid.IntRange(0, 4).Draw(t, name+" parts") {
				if flavour == MariaDB {
					k := gtidStream{rapid.Uint32Range(0, 1).Draw(t, "domain"), rapid.Uint32Range(1, 3).Draw(t, "server")}
					g = g.Union(GTIDs{last: map[gtidStream]uint64{k: rapid.Uint64Range(1, 9).Draw(t, "seq")}})
				} else {
					from := rapid.Uint64Range(1, 9).Draw(t, "from")
					r := []gtidRange{{from, from + rapid.Uint64Range(0, 5).Draw(t, "more")}}
					g = g.Union(GTIDs{runs: map[string][]gtidRange{rapid.SampledFrom([]string{uuidA, uuidB}).Draw(t, "source"): r}})
				}
			}
			return g
		}
		a, b := set("a"), set("b")
		u := a.Union(b)
		switch {
		case !u.Contains(a) || !u.Contains(b) || !u.Reaches(a) || !a.Contains(GTIDs{}):
			t.Fatalf("%s with %s: %s", a, b, u)
		case u.String() != b.Union(a).String():
			t.Fatalf("%s with %s depends on the order", a, b)
		case a.Contains(b) && b.Contains(a) && a.String() != b.String():
			t.Fatalf("%s and %s have each other", a, b)
		case flavour == MySQL8 && a.Minus(b).Union(b).String() != u.String():
			t.Fatalf("%s less %s: %s", a, b, a.Minus(b))
		case !a.Further(b).Reaches(a) || !a.Further(b).Reaches(b):
			t.Fatalf("%s, %s: further is %s", a, b, a.Further(b))
		}
		back, err := ParseGTIDs(flavour, u.String())
		if err != nil || back.String() != u.String() {
			t.Fatalf("%s is read as %s: %v", u, back, err)
		}
	})
}

func FuzzGTIDs(f *testing.F) {
	for _, s := range []string{"0-1-100,0-2-105", uuidA + ":1-5:7, " + uuidB + ":1", "", ",,", "1-1-1,"} {
		f.Add(MariaDB, s)
		f.Add(MySQL8, s)
	}
	f.Fuzz(func(t *testing.T, flavour, text string) {
		g, err := ParseGTIDs(flavour, text)
		if err != nil {
			return
		}
		back, err := ParseGTIDs(flavour, g.String())
		if err != nil || back.String() != g.String() {
			t.Fatalf("%q: %s is read as %s: %v", text, g, back, err)
		}
		if !g.Contains(g) || !g.Reaches(g) {
			t.Fatalf("%s has not itself", g)
		}
	})
}

func TestInherited(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flavour, history, position, want string }{
		{MariaDB, "0-1-128,0-4-700", "0-4-730", "0-1-128,0-4-730"},
		{MariaDB, "0-4-100,0-1-128", "0-1-131", "0-4-100,0-1-131"},
		{MariaDB, "0-1-128,1-1-9", "0-4-730,1-1-12", "0-1-128,0-4-730,1-1-12"},
		{MariaDB, "", "0-4-730", "0-4-730"},
		{MariaDB, "0-1-128,0-2-740,0-4-735,3-1-1", "0-4-730", "0-1-128,0-4-730"}, // what was said later
		{MariaDB, "0-1-128", "", ""},
		{MariaDB, "nonsense", "0-4-730", ""},
		{MySQL8, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", ""},
	} {
		got := Inherited(c.flavour, c.history, c.position)
		if got != c.want {
			t.Errorf("%q at %q: %q, want %q", c.history, c.position, got, c.want)
		}
		if got == "" {
			continue
		}
		if strings.Contains(c.history, "740") {
			continue // the rest comes when it follows
		}
		copied := Facts{Flavour: c.flavour, Binlog: got}
		if errant, err := Errant(Facts{Flavour: c.flavour, Binlog: c.history}, copied, true); err != nil || !errant.Empty() {
			t.Errorf("%q: whose copy it is seems to have %s of its own: %v", got, errant, err)
		}
	}
}
