package report

import (
	"strconv"
	"strings"
	"time"
)

// Check is what a node sees of one port of a member of a balanced tag.
type Check struct {
	State CheckState `cbor:"1,keyasint" json:"state"`
	// Bad is how many of the last answers in a row were bad, up to the check's Fall. It may be above zero while the state is up.
	Bad int `cbor:"2,keyasint,omitempty" json:"bad,omitempty"`
	// Since is when the state began, by the node's clock, in Unix milliseconds.
	Since int64 `cbor:"3,keyasint" json:"since_ms"`
	// Interval is how often it is tried, in milliseconds.
	Interval int64 `cbor:"4,keyasint" json:"interval_ms"`
	// Reason is for people: what the last bad answer was; of a state that is up, what is remarkable.
	Reason string `cbor:"5,keyasint,omitempty" json:"reason,omitempty"`
	// Addr is which address of the member is tried: it says nothing of one that the member gets. "" = an earlier build's, which does not say.
	Addr string `cbor:"6,keyasint,omitempty" json:"addr,omitempty"`
}

// CheckState is how a check stands. A check that does not know yet stands in no report.
type CheckState string

// The states of a check.
const (
	CheckUp   CheckState = "up"
	CheckDown CheckState = "down"
)

// MaxCheckKey is how many bytes a key of Checks has at most.
const MaxCheckKey = 2*MaxName + 12

// CheckKey is the key in Checks of a member's port: tag/host/port/protocol.
func CheckKey(tag, host string, port uint16, proto string) string {
	return tag + "/" + host + "/" + strconv.Itoa(int(port)) + "/" + proto
}

func validCheckKey(key string) bool {
	return len(key) <= MaxCheckKey && strings.Count(key, "/") == 3 && fits(key, MaxCheckKey)
}

// Fits reports whether a check of this key is within the bounds. States of a later build are taken as they are.
func (c Check) Fits(key string) bool {
	return validCheckKey(key) && fits(string(c.State), MaxWord) && fits(c.Addr, MaxWord) && fits(c.Reason, MaxReason)
}

// Current returns c while it counts, and nil when it counts no more: three intervals after its node was last alive. Nodes report changes
// alone, so that a check of a node that lives is current however old it is. silent is for how long the node has not been alive; 0 = it is.
func (c Check) Current(silent time.Duration) *Check {
	if silent > 3*time.Duration(c.Interval)*time.Millisecond {
		return nil
	}
	return &c
}

// Verdict is whether a member of a balanced tag may get clients, as far as checks say.
type Verdict struct {
	Out bool
	Why string // for people; "" = nothing speaks against it
}

// Judge says whether a member is out, from what the holder of its VIP and one other node see; nil = that one sees nothing, or it does not count
// any more. A member is out when both agree: each has had bad answers, together as many as Fall; or when the holder alone has seen Fall of them.
// Where there is no holder's check, the other one counts as the holder's does. With no observer a member is in.
func Judge(holder, second *Check, fall int) Verdict {
	first, who := holder, "the holder"
	if first == nil {
		first, second, who = second, nil, "the one node that checks it"
	}
	switch {
	case first == nil:
		return Verdict{}
	case first.State == CheckDown:
		if second != nil && (second.State == CheckDown || second.Bad > 0) {
			return Verdict{true, "both observers: " + first.Reason}
		}
		return Verdict{true, who + ": " + first.Reason}
	case second != nil && first.Bad > 0 && (second.State == CheckDown || second.Bad > 0) && first.Bad+second.Bad >= fall:
		return Verdict{true, "both observers: " + first.Reason}
	}
	return Verdict{}
}

// Pool applies what holds for a pool as a whole to the verdicts of its members: one in which every member is out is kept as it is, because
// sending to nobody helps nobody, and what fails everywhere at once is more likely the check. open says that this happened. The result is in
// the order of all, which stays as it is.
func Pool(all []Verdict) (in []Verdict, open bool) {
	in = append(in, all...)
	for _, v := range all {
		if !v.Out {
			return in, false
		}
	}
	for i := range in {
		in[i] = Verdict{Why: "kept in, because every member fails: " + in[i].Why}
	}
	return in, len(in) > 0
}
