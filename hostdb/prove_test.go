package hostdb_test

import (
	"fmt"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"
)

// Three to seven replicas, and all that may happen to them: writes of every kind, operations that come in pieces, twice, late
// or not at all, cuts, restarts, crashes, restored and cloned directories, clocks that are wrong and jump. Whoever holds the
// same operations gives the same answers, those that the rules give when they are read directly (prove_model_test.go); in the
// end everybody holds the same; nothing deleted is back; every loser of two concurrent writes is listed and in history.
//
// Long: go test ./hostdb -run TestProveMerge -rapid.checks=20000 -rapid.steps=100 -timeout 0
func TestProveMerge(t *testing.T) {
	for boxes := 3; boxes <= 7; boxes++ {
		t.Run(fmt.Sprintf("%d boxes", boxes), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				cryptotest.SetGlobalRandom(t, rapid.Uint64().Draw(rt, "origins")) // so that a failure comes again
				w := newWorld(rt, boxes)
				for range 2 {
					rt.Repeat(w.steps())
					w.T = rt
					if rapid.Bool().Draw(rt, "exchange") {
						w.exchange()
					}
				}
				w.settle()
			})
		})
	}
}
