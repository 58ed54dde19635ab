package mesh

import (
	"log/slog"
	"testing"

	"hostmesh/mesh/report"
)

// TestClaimOfTheHighestRun: a broken peer says that it has a report of this node of the highest run that is taken. This node does
// not go above it: it would be heard by nobody from then on, after restarts either, for it keeps that number.
func TestClaimOfTheHighestRun(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	b := newBoard(Member{ID: reportNodeID(0), Name: "n0", State: StateAlive}, log, realClock{}.Now)
	s := newReportSync(b, reportNodeID(0), 100, log, realClock{})
	kept := uint64(0)
	s.boots = func(boot uint64) { kept = boot }
	s.edit(func(r *report.Report) { r.VMs["a"] = report.VM{Name: "a", Phase: report.Running} })
	lie := reportMessage{News: []wireDelta{{Node: nodeBytes(reportNodeID(0)), Boot: maxBoot, N: 1}}}
	heard, err := decodeReports(lie.encode())
	if err != nil {
		return // refused, as it should be
	}
	s.take(reportNodeID(1), heard.News)
	d, ok := s.board.reports.delta(reportNodeID(0), stamp{})
	if !ok {
		t.Fatal("no report")
	}
	if kept != 0 {
		t.Errorf("run %d is kept", kept)
	}
	own := reportMessage{News: []wireDelta{d.wire()}}
	if _, err := decodeReports(own.encode()); err != nil {
		t.Errorf("peers refuse this node's report from now on: %v (run kept: %d)", err, kept)
	}
}
