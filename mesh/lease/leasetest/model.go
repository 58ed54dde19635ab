// Package leasetest has the sequential contracts of records and duties, for a checker of linearizability (porcupine), so that tests in
// virtual time and real processes are held to the same.
//
// It leaves to others how histories are made. It knows nothing of how a group works.
package leasetest

import (
	"math"

	"github.com/anishathalye/porcupine"
)

// Kind is what a client asked for.
type Kind uint8

// The kinds of calls.
const (
	Get Kind = iota
	Put
	Delete
	Next // of a counter
)

// Call is what a client of the group asked for. Values must be unique over a whole history.
type Call struct {
	Kind    Kind
	Key     string
	Value   string // of Put
	Version uint64 // of Put and Delete: that it is to replace; of Next: by how much
}

// Seen is what it was answered.
type Seen struct {
	Value    string // of Get
	Version  uint64 // of Get: 0 = there is no such record; of Put: the new one; of Next: the counter
	OK       bool   // Put, Delete, Next: it was done
	Unknown  bool   // Put, Delete: perhaps
	NotFound bool   // Delete: there was nothing
}

// cell is one record, or one counter.
type cell struct {
	value   string
	version uint64
	top     uint64 // the highest version so far, of those that somebody was told
}

// Versions are the versions under which values were read, by value: what Puts of unknown outcome had for theirs. A checker
// needs all of a history before it begins.
type Versions map[string]uint64

// Records is the contract of records under Get, Put and Delete, and of counters under Next, key by key.
func Records(versions Versions) porcupine.Model {
	// A write of unknown outcome has a version that nobody was told. A later reader tells it: it is the only one that can have written
	// its value.
	unknown := func(value string) uint64 {
		if v, ok := versions[value]; ok {
			return v
		}
		return math.MaxUint64 // nobody ever read it
	}
	m := porcupine.NondeterministicModel{
		Partition: byKey,
		Init:      func() []any { return []any{cell{}} },
		Step: func(state, input, output any) []any {
			s, c, o := state.(cell), input.(Call), output.(Seen)
			switch c.Kind {
			case Get:
				if o.Version == s.version && o.Value == s.value {
					return []any{s}
				}
				return nil
			case Next:
				// Numbers may be left out: a lost answer is asked for again.
				if o.Version < s.version+c.Version {
					return nil
				}
				return []any{cell{version: o.Version}}
			}
			fits := s.version == c.Version && (c.Kind == Put || s.version != 0)
			done := cell{c.Value, o.Version, o.Version}
			if c.Kind == Delete {
				done = cell{top: s.top}
			}
			switch {
			case o.OK:
				if !fits || c.Kind == Put && o.Version <= s.top {
					return nil
				}
				return []any{done}
			case o.Unknown && !fits:
				return []any{s}
			case o.Unknown:
				if c.Kind == Put {
					done = cell{c.Value, unknown(c.Value), s.top}
					if done.version != math.MaxUint64 {
						done.top = max(s.top, done.version)
					}
				}
				return []any{s, done}
			case o.NotFound:
				if s.version != 0 {
					return nil
				}
				return []any{s}
			case fits, c.Kind == Delete && s.version == 0:
				return nil // refused, though nothing stood against it; or not for that reason
			}
			return []any{s}
		},
		Equal: func(a, b any) bool { return a == b },
	}
	return m.ToModel()
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	by := map[string][]porcupine.Operation{}
	for _, o := range history {
		by[o.Input.(Call).Key] = append(by[o.Input.(Call).Key], o)
	}
	var out [][]porcupine.Operation
	for _, list := range by {
		out = append(out, list)
	}
	return out
}

// Tenure is what happened to a duty: a holder began; or it acts no more, from which moment on, at an unknown time, the next may begin.
type Tenure struct {
	Begin bool
	Fence uint64
}

// Duty is the contract of one duty: one holder at a time, each under a higher number than the one before.
func Duty() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return [2]uint64{} }, // who holds it; the highest number
		Step: func(state, input, _ any) (bool, any) {
			s, c := state.([2]uint64), input.(Tenure)
			switch {
			case c.Begin && s[0] == 0 && c.Fence > s[1]:
				return true, [2]uint64{c.Fence, c.Fence}
			case c.Begin:
				return false, s
			case s[0] == c.Fence:
				return true, [2]uint64{0, s[1]}
			}
			return true, s
		},
	}
}
