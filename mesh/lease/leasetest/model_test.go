package leasetest

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// step is one call in a made-up history, from one moment to another; 0 as its end = it never came back.
type step struct {
	from, to int64
	call     Call
	seen     Seen
}

func TestRecords(t *testing.T) {
	put := func(from, to int64, value string, on, version uint64) step {
		return step{from, to, Call{Put, "k", value, on}, Seen{Version: version, OK: true}}
	}
	lost := func(from int64, value string, on uint64) step {
		return step{from, 0, Call{Put, "k", value, on}, Seen{Unknown: true}}
	}
	get := func(from, to int64, value string, version uint64) step {
		return step{from, to, Call{Kind: Get, Key: "k"}, Seen{Value: value, Version: version}}
	}
	refused := func(from, to int64, on uint64) step {
		return step{from, to, Call{Put, "k", "refused", on}, Seen{}}
	}
	del := func(from, to int64, on uint64, seen Seen) step {
		return step{from, to, Call{Kind: Delete, Key: "k", Version: on}, seen}
	}
	next := func(from, to int64, by, got uint64) step {
		return step{from, to, Call{Kind: Next, Key: "counter", Version: by}, Seen{Version: got, OK: true}}
	}
	for name, c := range map[string]struct {
		good  bool
		steps []step
	}{
		"one after the other":                  {true, []step{put(0, 1, "a", 0, 5), get(2, 3, "a", 5), put(4, 5, "b", 5, 9), get(6, 7, "b", 9)}},
		"a read that is late":                  {false, []step{put(0, 1, "a", 0, 5), put(2, 3, "b", 5, 9), get(4, 5, "a", 5)}},
		"two that replace the same":            {false, []step{put(0, 1, "a", 0, 5), put(2, 9, "b", 5, 9), put(3, 8, "c", 5, 10)}},
		"a version that does not grow":         {false, []step{put(0, 1, "a", 0, 5), put(2, 3, "b", 5, 4)}},
		"a lost one that was written":          {true, []step{put(0, 1, "a", 0, 5), lost(2, "b", 5), get(4, 5, "a", 5), get(6, 7, "b", 8), put(8, 9, "c", 8, 9)}},
		"a lost one that comes and goes":       {false, []step{put(0, 1, "a", 0, 5), lost(2, "b", 5), get(4, 5, "b", 8), get(6, 7, "a", 5)}},
		"a lost one under an old number":       {false, []step{put(0, 1, "a", 0, 5), lost(2, "b", 5), get(4, 5, "b", 8), put(6, 7, "c", 8, 7)}},
		"refused without a reason":             {false, []step{put(0, 1, "a", 0, 5), refused(2, 3, 5)}},
		"refused with one":                     {true, []step{put(0, 1, "a", 0, 5), refused(2, 3, 4)}},
		"deleted":                              {true, []step{put(0, 1, "a", 0, 5), del(2, 3, 5, Seen{OK: true}), get(4, 5, "", 0), put(6, 7, "b", 0, 8)}},
		"deleted, and an old number again":     {false, []step{put(0, 1, "a", 0, 5), del(2, 3, 5, Seen{OK: true}), put(6, 7, "b", 0, 4)}},
		"deleted, and still there":             {false, []step{put(0, 1, "a", 0, 5), del(2, 3, 5, Seen{OK: true}), get(4, 5, "a", 5)}},
		"not found, though it is there":        {false, []step{put(0, 1, "a", 0, 5), del(2, 3, 5, Seen{NotFound: true})}},
		"a lost delete":                        {true, []step{put(0, 1, "a", 0, 5), del(2, math.MaxInt64, 5, Seen{Unknown: true}), get(4, 5, "a", 5), get(6, 7, "", 0)}},
		"a counter that leaves out":            {true, []step{next(0, 1, 1, 1), next(2, 3, 2, 7)}},
		"a counter that gives a number twice":  {false, []step{next(0, 9, 1, 1), next(0, 9, 1, 1)}},
		"a counter that goes back":             {false, []step{next(0, 1, 1, 5), next(2, 3, 1, 4)}},
		"a counter that gives part of another": {false, []step{next(0, 9, 4, 4), next(0, 9, 4, 6)}},
	} {
		versions := Versions{}
		var history []porcupine.Operation
		for i, s := range c.steps {
			if s.to == 0 && s.from > 0 {
				s.to = math.MaxInt64
			}
			if s.call.Kind == Get && s.seen.Version > 0 {
				versions[s.seen.Value] = s.seen.Version
			}
			history = append(history, porcupine.Operation{ClientId: i, Input: s.call, Output: s.seen, Call: s.from, Return: s.to})
		}
		if got := porcupine.CheckOperations(Records(versions), history); got != c.good {
			t.Errorf("%s: linearizable is %v", name, got)
		}
	}
}

func TestDuty(t *testing.T) {
	type event struct {
		from, to int64
		what     Tenure
	}
	const never = math.MaxInt64
	for name, c := range map[string]struct {
		good   bool
		events []event
	}{
		"one after the other":     {true, []event{{0, 1, Tenure{true, 3}}, {2, never, Tenure{false, 3}}, {0, 4, Tenure{true, 5}}}},
		"both at once":            {false, []event{{0, 1, Tenure{true, 3}}, {5, never, Tenure{false, 3}}, {0, 4, Tenure{true, 5}}}},
		"a number that goes back": {false, []event{{0, 1, Tenure{true, 3}}, {2, never, Tenure{false, 3}}, {3, 4, Tenure{true, 2}}}},
		"a number twice":          {false, []event{{0, 1, Tenure{true, 3}}, {2, never, Tenure{false, 3}}, {3, 4, Tenure{true, 3}}}},
	} {
		var history []porcupine.Operation
		for i, e := range c.events {
			history = append(history, porcupine.Operation{ClientId: i, Input: e.what, Call: e.from, Return: e.to})
		}
		if got := porcupine.CheckOperations(Duty(), history); got != c.good {
			t.Errorf("%s: linearizable is %v", name, got)
		}
	}
}
