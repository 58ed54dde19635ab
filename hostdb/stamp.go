package hostdb

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Stamp orders operations: a hybrid logical clock reading (Kulkarni and others, 2014), ties broken by origin. It is
// also an operation's id, and in text form the revision that people see: the same on every node.
type Stamp struct {
	_      struct{} `cbor:",toarray"`
	Time   Time
	Origin uint64
}

// Time is a hybrid logical clock reading: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
type Time uint64

// TimeOf is the lowest reading at wall time t.
func TimeOf(t time.Time) Time {
	ms := t.UnixMilli()
	if ms < 0 {
		ms = 0
	}
	return Time(ms) << 16
}

// Wall is the wall time of the reading, to the millisecond.
func (t Time) Wall() time.Time { return time.UnixMilli(int64(t >> 16)) }

// Compare orders stamps by time, then by origin.
func (s Stamp) Compare(o Stamp) int {
	if c := cmp.Compare(s.Time, o.Time); c != 0 {
		return c
	}
	return cmp.Compare(s.Origin, o.Origin)
}

// Less reports whether s is before o.
func (s Stamp) Less(o Stamp) bool { return s.Compare(o) < 0 }

// IsZero reports whether s is the stamp of nothing.
func (s Stamp) IsZero() bool { return s.Time == 0 && s.Origin == 0 }

// String is the revision as people see it: time.origin in hexadecimal. Texts sort as stamps do. The zero Stamp is "".
func (s Stamp) String() string {
	if s.IsZero() {
		return ""
	}
	return fmt.Sprintf("%016x.%016x", uint64(s.Time), s.Origin)
}

// ParseStamp reads what String writes.
func ParseStamp(text string) (Stamp, error) {
	t, o, ok := strings.Cut(text, ".")
	time, err1 := strconv.ParseUint(t, 16, 64)
	origin, err2 := strconv.ParseUint(o, 16, 64)
	if !ok || err1 != nil || err2 != nil || len(o) != 16 {
		return Stamp{}, refuse(ErrInvalid, "%q is not a revision: expected hexadecimal TIME.ORIGIN as in a list of revisions", text)
	}
	return Stamp{Time: Time(time), Origin: origin}, nil
}

func maxStamp(a, b Stamp) Stamp {
	if a.Less(b) {
		return b
	}
	return a
}

// Clock tells the wall time. The zero of Config takes the system's.
type Clock interface{ Now() time.Time }

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// hybridClock gives readings that only grow. It is not safe for concurrent use; the Store guards it.
type hybridClock struct{ last Time }

// next is a reading above all given and seen before, and not below the wall.
func (c *hybridClock) next(wall time.Time) Time {
	c.last = max(TimeOf(wall), c.last+1)
	return c.last
}

// see takes note of somebody else's reading.
func (c *hybridClock) see(t Time) { c.last = max(c.last, t) }

// ahead is how far the readings run before the wall; zero when they do not.
func (c *hybridClock) ahead(wall time.Time) time.Duration {
	return max(0, c.last.Wall().Sub(wall))
}
