package api

import (
	"fmt"
	"time"
)

// ReplicationStatus is what a replica does beside answering: how it got its state, what it waits for, whom it cannot agree with.
type ReplicationStatus struct {
	Join *JoinStatus `json:"join,omitempty" doc:"The taking of a first copy from another node; absent while there is none"`
	// HistoryMissing counts down while a node that joined fetches history; until 0 it answers no question about the past.
	HistoryMissing uint64        `json:"history_missing,omitempty" doc:"Operations of history that this node still fetches; until there are none it answers no question about the past"`
	HistoryError   string        `json:"history_error,omitempty" doc:"Why the last of it did not come"`
	HistoryFrom    *time.Time    `json:"history_from,omitempty" doc:"Where history begins, because older operations were dropped; absent when all of it is held"`
	Kept           string        `json:"kept,omitempty" doc:"Why history is kept that is old enough to be dropped; empty when none is"`
	Forks          []ForkStatus  `json:"forks,omitempty" doc:"Runs of which two chains exist: two boxes write under one identity"`
	Aside          []AsideStatus `json:"aside,omitempty" doc:"Operations that wait because the clock of the box that wrote them runs ahead"`
	Clocks         ClocksStatus  `json:"clocks" doc:"This box's clock beside those of the others"`
	Verdict        string        `json:"verdict,omitempty" doc:"What the last look into replicas that differed came to"`
}

// JoinStatus is how far the taking of a first copy has come.
type JoinStatus struct {
	From  string `json:"from,omitempty" doc:"The node that is asked"`
	Bytes int64  `json:"bytes"`
	Keys  int    `json:"keys,omitempty" doc:"Keys that the state has; absent when that is not known"`
	Error string `json:"error,omitempty" doc:"Why the last piece did not come"`
}

// ForkStatus is a run of which two chains exist.
type ForkStatus struct {
	Origin string    `json:"origin"`
	Node   string    `json:"node,omitempty" doc:"Whose run it is"`
	Peer   string    `json:"peer,omitempty" doc:"Who holds the other chain"`
	Seqs   []uint64  `json:"seqs" nullable:"false" doc:"Operations that are kept aside, the first of them"`
	Since  time.Time `json:"since"`
}

// AsideStatus are operations of one run that wait.
type AsideStatus struct {
	Origin  string    `json:"origin"`
	Node    string    `json:"node,omitempty" doc:"Who wrote them"`
	AheadMS int64     `json:"ahead_ms" doc:"How far they are stamped ahead of this box's clock"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until" doc:"When they can be taken"`
}

// ClocksStatus is this box's clock beside those of the others.
type ClocksStatus struct {
	Known   int         `json:"known" doc:"Clocks that are known, this box's included; from 3 on the median is believed"`
	AheadMS int64       `json:"ahead_ms" doc:"How far this box's clock is ahead of the median; negative when it is behind"`
	Wrong   bool        `json:"wrong,omitempty" doc:"True when it is more than a second off the median of 3 clocks or more: local writes are refused"`
	Differ  bool        `json:"differ,omitempty" doc:"True when two clocks are known and over a second apart: nobody can tell which is right"`
	Others  []PeerClock `json:"others,omitempty" doc:"Clocks that are more than a second off"`
}

// PeerClock is the clock of another node.
type PeerClock struct {
	Name    string `json:"name"`
	AheadMS int64  `json:"ahead_ms" doc:"How far it is ahead of this box's clock"`
	OffMS   int64  `json:"off_ms" doc:"How far it is ahead of the median"`
	Wrong   bool   `json:"wrong,omitempty" doc:"True when it is more than a second off the median of 3 clocks or more"`
}

func (d *diagnosis) replication(r ReplicationStatus) {
	if j := r.Join; j != nil {
		text := fmt.Sprintf("takes its first copy of HostDB: %s so far", size(j.Bytes))
		if j.Error != "" {
			text += "; the last piece did not come: " + j.Error
		}
		d.notice("hostdb", text, "")
	}
	if n := r.HistoryMissing; n > 0 {
		text := fmt.Sprintf("still fetches history: %s to go", count(n, "operation", "operations"))
		if r.HistoryError != "" {
			text += "; the last ones did not come: " + r.HistoryError
		}
		d.notice("hostdb", text, "questions about the past are answered by the other nodes")
	}
	if r.Kept != "" {
		d.notice("hostdb", r.Kept, "get it back, or remove it: hostmesh node remove")
	}
	for _, f := range r.Forks {
		d.error("hostdb", fmt.Sprintf("run %s of %s has two chains: two boxes write under one identity; what does not belong to ours is kept aside", f.Origin, orSomebody(f.Node)),
			"see what was written: hostmesh db forks; find the box whose data directory or memory was copied, and empty it there")
	}
	for _, a := range r.Aside {
		d.error("clock", fmt.Sprintf("operations of %s wait until %s: its clock ran %s ahead", orSomebody(a.Node), a.Until.UTC().Format("2006-01-02 15:04:05 UTC"), ms(a.AheadMS)),
			"correct the clock of that box, then there: hostmesh db restamp")
	}
	c := r.Clocks
	switch {
	case c.Wrong:
		d.error("clock", fmt.Sprintf("this box's clock is %s off the median of %d: writes are refused here", ms(c.AheadMS), c.Known), "set it (chronyc tracking)")
	case c.Differ:
		d.error("clock", "this box's clock and that of the only other one are over a second apart; of two, nobody can tell which is right", "compare both with a third (chronyc tracking)")
	}
	for _, p := range c.Others {
		if p.Wrong {
			d.error("clock", fmt.Sprintf("the clock of %s is %s off the median", p.Name, ms(p.OffMS)), "set it there (chronyc tracking)")
		}
	}
	if r.Verdict != "" {
		d.notice("hostdb", "replicas differed: "+r.Verdict, "what was found lies in the data directory, in evidence")
	}
}

func orSomebody(name string) string {
	if name == "" {
		return "a node that is not known"
	}
	return name
}

func ms(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
