package report

import (
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	up := func(bad int) *Check { return &Check{State: CheckUp, Bad: bad, Reason: "refused"} }
	down := &Check{State: CheckDown, Bad: 3, Reason: "refused"}
	for _, tt := range []struct {
		name           string
		holder, second *Check
		out            bool
		why            string
	}{
		{"nobody looks", nil, nil, false, ""},
		{"well", up(0), up(0), false, ""},
		{"the holder alone", down, up(0), true, "the holder: refused"},
		{"the holder alone, not Fall times", up(2), up(0), false, ""},
		{"the second alone", up(0), down, false, ""},
		{"both down", down, down, true, "both observers: refused"},
		{"both, together Fall", up(2), up(1), true, "both observers: refused"},
		{"both, together less", up(1), up(1), false, ""},
		{"one bad answer and one that is down", up(1), down, true, "both observers: refused"},
		{"the holder is well again before the second", up(0), down, false, ""},
		{"no holder", nil, down, true, "the one node that checks it: refused"},
		{"no holder, well", nil, up(2), false, ""},
		{"no second", down, nil, true, "the holder: refused"},
		{"a state of a later build", &Check{State: "slow"}, nil, false, ""},
	} {
		if v := Judge(tt.holder, tt.second, 3); v.Out != tt.out || v.Why != tt.why {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

func TestPool(t *testing.T) {
	out, in := Verdict{true, "refused"}, Verdict{}
	if got, open := Pool([]Verdict{out, in, out}); open || !got[0].Out || got[1].Out {
		t.Errorf("%+v %v", got, open)
	}
	all := []Verdict{out, out}
	got, open := Pool(all)
	if !open || got[0].Out || got[1].Out || !strings.Contains(got[0].Why, "every member fails: refused") || !all[0].Out {
		t.Errorf("%+v %v, given %+v", got, open, all)
	}
	if got, open := Pool(nil); open || len(got) != 0 {
		t.Errorf("of nobody: %+v %v", got, open)
	}
}

func TestCurrent(t *testing.T) {
	c := Check{State: CheckDown, Interval: 2000}
	for silent, counts := range map[time.Duration]bool{0: true, 6 * time.Second: true, 6*time.Second + 1: false} {
		if got := c.Current(silent); (got != nil) != counts {
			t.Errorf("after %s: %v", silent, got)
		}
	}
}

func TestCheckKeys(t *testing.T) {
	key := CheckKey("resolvers", "dns1.example.com", 53, "udp")
	if key != "resolvers/dns1.example.com/53/udp" || !(Check{}).Fits(key) {
		t.Error(key)
	}
	for _, bad := range []string{"", "a/b/53", "a/b/53/udp/x", strings.Repeat("a", MaxCheckKey) + "/b/53/udp", "a/\xff/53/udp"} {
		if (Check{}).Fits(bad) {
			t.Errorf("%q fits", bad)
		}
	}
	long := Check{State: CheckUp, Reason: strings.Repeat("ä", MaxReason)}
	r := Report{Checks: map[string]Check{key: long, "bad": {}}}
	Trim(&r)
	if len(r.Checks) != 1 || !r.Checks[key].Fits(key) || len(r.Checks[key].Reason) < MaxReason-4 {
		t.Errorf("%d checks, a reason of %d bytes", len(r.Checks), len(r.Checks[key].Reason))
	}
	c := Clone(r)
	if !Equal(r, c) {
		t.Error("a copy differs")
	}
	c.Checks[key] = Check{}
	if Equal(r, c) {
		t.Error("a copy shares its checks")
	}
}
