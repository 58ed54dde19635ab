package local

import (
	"errors"
	"testing"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestCutEndsACopy: when a change of a later epoch cuts a replica of which a copy is made, the program that makes it, which stops and starts what applies, has ended before the cut returns.
func TestCutEndsACopy(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 2)
	primary, donor := w.boxes[1], w.boxes[2]
	h := donor.local()
	cp, err := PeerDonors{w}.OpenDonor(t.Context(), donor.name(), order(1, 1), []string{MethodBackup})
	mustDo(t, err)
	defer cp.Close()
	applies := func(want bool) {
		t.Helper()
		until(t, "what applies is stopped, or runs again", func() bool {
			f, err := donor.member().SQL.Observe(t.Context())
			return err == nil && f.Replica != nil && f.Replica.SQL == want
		})
	}
	applies(false)
	x := h.donor.current()
	mustDo(t, h.Cut(t.Context(), order(1, 1), mysqlha.Source{Host: "10.78.0.99", Port: 3306, Name: "another"}))
	if isClosed(x.exited) {
		t.Fatal("a cut of the same epoch ends the copy")
	}
	mustDo(t, h.Cut(t.Context(), order(2, 2), primary.source()))
	if !isClosed(x.exited) {
		t.Error("the program goes on after the cut")
	}
	applies(true)
	if _, err := (PeerDonors{w}).OpenDonor(t.Context(), donor.name(), order(1, 1), []string{MethodBackup}); !errors.Is(err, mysqlha.ErrOvertaken) {
		t.Errorf("a copy under the earlier epoch: %v", err)
	}
	until(t, "no copy is given", func() bool { return !donor.last().Lends })
	donor.tidy()
}
