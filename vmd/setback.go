package vmd

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// setback is what boxes that could not make a machine mean for the next try: for a while, which grows with the attempts, it is not
// given to them again; and when maxBoxes failed within that while, to none.
type setback struct {
	recent []Attempt     // that speak against their boxes, oldest first
	pause  time.Duration // for how long each does
}

// setbackOf: an attempt speaks no more when the box's entry was changed after it; changed is when that was.
func setbackOf(list []Attempt, now time.Time, changed func(box string) time.Time) setback {
	var s setback
	var standing []Attempt
	for _, a := range list {
		at := time.UnixMilli(a.At)
		if changed != nil && changed(a.Box).After(at) && now.Sub(at) >= changeCounts {
			continue
		}
		standing = append(standing, a)
	}
	slices.SortStableFunc(standing, func(a, b Attempt) int { return int(a.At - b.At) })
	s.pause = min(leftOutFor<<(max(len(standing)-1, 0)/maxBoxes), leftOutMost)
	for _, a := range standing {
		if now.Before(s.until(a)) {
			s.recent = append(s.recent, a)
		}
	}
	return s
}

func (s setback) until(a Attempt) time.Time { return time.UnixMilli(a.At).Add(s.pause) }

// spent reports whether no box is tried now.
func (s setback) spent() bool { return len(s.recent) >= maxBoxes }

// text tells people which boxes could not make a machine, why, and what happens next.
func (s setback) text(name string) string {
	var lines, boxes []string
	for _, a := range s.recent {
		lines = append(lines, a.Box+": "+a.Reason)
		if !slices.Contains(boxes, a.Box) {
			boxes = append(boxes, a.Box)
		}
	}
	next := s.until(s.recent[max(len(s.recent)-maxBoxes, 0)])
	who := boxes[0] + " could not make it"
	switch {
	case len(boxes) > 1:
		who = fmt.Sprintf("%d boxes could not make it", len(boxes))
	case len(lines) > 1:
		who = fmt.Sprintf("%s could not make it, %d times", boxes[0], len(lines))
	}
	if !s.spent() {
		who += ", and no other can have it"
	}
	return fmt.Sprintf("%s. It is tried again at %s, when its entry, its image or that of the box changes, or with hostmesh vm retry %s. %s",
		who, next.UTC().Truncate(time.Second).Format(time.RFC3339), name, strings.Join(lines, "; "))
}
