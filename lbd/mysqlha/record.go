package mysqlha

import (
	"context"
	"errors"
	"time"
)

// Record is what the agents have agreed on about a cluster. It lies in the lease log, under RecordKey, in JSON.
type Record struct {
	// Format is that of the record: 1.
	Format int `json:"format"`
	// Epoch grows with each change of the primary that is begun. An order of an older epoch is refused everywhere.
	Epoch uint64 `json:"epoch"`
	// Primary is the key in hosts of the server that takes writes; while Intent is set, of the one that did before.
	Primary string `json:"primary"`
	// Ackers are the hosts whose acknowledgement counts, sorted: a transaction that was acknowledged is on one of them.
	Ackers []string `json:"ackers"`
	// Durability is the one that holds at present, from the section: strict or available.
	Durability string `json:"durability"`
	// Intent is a change that was begun and has not ended; nil = none.
	Intent *Intent `json:"intent,omitempty"`
	// LastFailover is when the last automatic failover began, by the wall clock of its runner; zero = there was none.
	LastFailover time.Time `json:"last_failover,omitzero"`
	// AckedBy is who has acknowledged the last failover, so that another may follow within the hour; "" = nobody.
	AckedBy string `json:"acked_by,omitempty"`
	// Paused is who has paused automatic acts, when and why; nil = they are not.
	Paused *Paused `json:"paused,omitempty"`
	// Fenced are the hosts whose servers must not start as a primary: old primaries that have not rejoined. host -> why.
	Fenced map[string]string `json:"fenced,omitempty"`
	// History are the last changes, newest first, HistoryLength at most.
	History []Event `json:"history,omitempty"`
}

// HistoryLength is how many events a record keeps.
const HistoryLength = 20

// RecordKey is where the record of a tag's cluster lies in the lease log.
func RecordKey(tag string) string { return "mysql/" + tag }

// DutyOf is the duty of watching over a tag's cluster.
func DutyOf(tag string) string { return "mysql/" + tag }

// Kind is what a change of the primary is.
type Kind string

// The kinds.
const (
	Failover   Kind = "failover"   // the primary is gone
	Switchover Kind = "switchover" // it is well, and hands over
)

// Intent is a change that has begun. Each step is idempotent; Step is written before the step is carried out, so that another runner begins with it.
type Intent struct {
	Kind Kind   `json:"kind"`
	Step string `json:"step"`
	// Old is the primary that is replaced, To the one that replaces it, once it is chosen.
	Old string `json:"old"`
	To  string `json:"to,omitempty"`
	// Cut are hosts of which it is established that they receive nothing from Old any more; FenceConfirmed that Old's server was killed.
	Cut            []string `json:"cut,omitempty"`
	FenceConfirmed string   `json:"fence_confirmed,omitempty"` // how; "" = not
	// Began is when, by the wall clock of the runner that began it; By is who asked for it: "" = nobody, it is automatic.
	Began time.Time `json:"began"`
	By    string    `json:"by,omitempty"`
	// Forced says that a person has accepted the loss of transactions.
	Forced bool `json:"forced,omitempty"`
	// Why is the diagnosis that led to it.
	Why string `json:"why"`
	// Stopped is why the runner goes no further without a person; "" = it goes on.
	Stopped string `json:"stopped,omitempty"`
	// Loss is what may have been lost, for people; "" = nothing was.
	Loss string `json:"loss,omitempty"`
}

// Paused is who has paused automatic acts.
type Paused struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// Event is one line of a cluster's history.
type Event struct {
	At    time.Time `json:"at"`
	Epoch uint64    `json:"epoch"`
	What  string    `json:"what"` // for people
	// Took is how long a change of the primary has taken; 0 = it is none.
	Took time.Duration `json:"took,omitempty"`
	By   string        `json:"by,omitempty"`
}

// Errors of Records.
var (
	// ErrChanged is returned when the record is not what the writer has read: read it again.
	ErrChanged = errors.New("the cluster's record has changed meanwhile")
	// ErrNoRecord is returned when there is none: nobody has set the cluster up.
	ErrNoRecord = errors.New("the cluster has no record: hostmesh mysql setup makes it")
	// ErrOvertaken is returned for what is done under a grant, or an epoch, that is over.
	ErrOvertaken = errors.New("another agent decides about this cluster by now")
)

// Records are where the record lies. Reads and writes go through the quorum of the lease group.
type Records interface {
	// Load returns the record and its version: ErrNoRecord.
	Load(ctx context.Context, tag string) (Record, uint64, error)
	// Store writes it, under the grant of the caller, when its version is still this one; 0 = there is none yet. ErrChanged, ErrOvertaken.
	Store(ctx context.Context, tag string, r Record, version uint64) (uint64, error)
}
