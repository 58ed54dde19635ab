package vmd

import (
	"strings"
	"testing"
	"time"
)

// TestSetback: at most three boxes within the pause, which grows with the attempts and not beyond a bound; a box whose entry was changed since
// its attempt is tried again.
func TestSetback(t *testing.T) {
	start := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	at := func(box string, minutes int) Attempt {
		return Attempt{Node: "id-" + box, Box: box, Reason: "no space", At: start.Add(time.Duration(minutes) * time.Minute).UnixMilli()}
	}
	many := func(n, apart int) (list []Attempt) {
		for i := range n {
			list = append(list, at("a", i*apart))
		}
		return list
	}
	for _, c := range []struct {
		name    string
		list    []Attempt
		now     int // minutes
		changed map[string]int
		recent  int
		pause   time.Duration
		spent   bool
		text    string
	}{
		{"none", nil, 0, nil, 0, 10 * time.Minute, false, ""},
		{"one", []Attempt{at("a", 0)}, 9, nil, 1, 10 * time.Minute, false, "a could not make it, and no other can have it. It is tried again at 2031-05-01T12:10:00Z,"},
		{"one, later", []Attempt{at("a", 0)}, 10, nil, 0, 10 * time.Minute, false, ""},
		{"three boxes", []Attempt{at("a", 0), at("b", 1), at("c", 2)}, 3, nil, 3, 10 * time.Minute, true, "3 boxes could not make it. It is tried again at 2031-05-01T12:10:00Z,"},
		{"the first of three may again", []Attempt{at("a", 0), at("b", 1), at("c", 2)}, 10, nil, 2, 10 * time.Minute, false, ""},
		{"a fourth", []Attempt{at("a", 0), at("b", 1), at("c", 2), at("d", 10)}, 19, nil, 4, 20 * time.Minute, true, "4 boxes could not make it. It is tried again at 2031-05-01T12:21:00Z,"},
		{"in any order", []Attempt{at("c", 2), at("a", 0), at("b", 1)}, 10, nil, 2, 10 * time.Minute, false, ""},
		{"twelve", many(12, 100), 1101, nil, 1, 80 * time.Minute, false, "a could not make it, and no other can have it. It is tried again at 2031-05-02T07:40:00Z,"},
		{"a bound", many(40, 1), 39, nil, 40, 2 * time.Hour, true, "a could not make it, 40 times."},
		{"its entry was changed", []Attempt{at("a", 0), at("b", 1)}, 3, map[string]int{"a": 2}, 1, 10 * time.Minute, false, "b could not make it, and"},
		{"changed before", []Attempt{at("a", 2)}, 3, map[string]int{"a": 1}, 1, 10 * time.Minute, false, "a could not make it, and"},
		{"changed a moment ago", []Attempt{at("a", 2)}, 2, map[string]int{"a": 3}, 1, 10 * time.Minute, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := setbackOf(c.list, start.Add(time.Duration(c.now)*time.Minute), func(box string) time.Time {
				if m, ok := c.changed[box]; ok {
					return start.Add(time.Duration(m) * time.Minute)
				}
				return time.Time{}
			})
			if len(s.recent) != c.recent || s.pause != c.pause || s.spent() != c.spent {
				t.Errorf("%d recent, for %s, spent %t", len(s.recent), s.pause, s.spent())
			}
			if c.text == "" {
				return
			}
			if text := s.text("web7"); !strings.HasPrefix(text, c.text) || !strings.Contains(text, "hostmesh vm retry web7. ") || !strings.HasSuffix(text, ": no space") {
				t.Error(text)
			}
		})
	}
}
