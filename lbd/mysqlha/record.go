package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Record is what the agents have agreed on about a cluster. It lies in the lease log, under RecordKey, in JSON.
type Record struct {
	// Format is that of the record: 1.
	Format int `json:"format"`
	// Epoch grows with each change of the primary that is begun. An order of an older epoch is refused everywhere.
	Epoch uint64 `json:"epoch"`
	// Primary is the key in hosts of the server that takes writes; while Intent is set and its step is before StepOpen, of the one that did before. From
	// the writing of StepOpen on it is the new one, for that may have written.
	Primary string `json:"primary"`
	// Ackers are the hosts whose acknowledgement counts, sorted: a transaction that was acknowledged is on one of them.
	Ackers []string `json:"ackers"`
	// Starts are, of ackers, when that process of its server began of which it was established that it has all that the primary had: one that
	// was started since has dropped its relay log, and with it perhaps what it had acknowledged.
	Starts map[string]time.Time `json:"starts,omitempty"`
	// Shut are hosts that were ackers, are not any more, and could not be told. The primary's host receives nothing from them until they have been.
	Shut []string `json:"shut,omitempty"`
	// Position is how far the primary had come when it became that, or when a replica was last found to have all: a primary that is not there any more has lost data. "" = it is not known, noPosition = it had nothing.
	Position string `json:"position,omitempty"`
	// Durability is the one that holds at present, from the section: strict or available.
	Durability string `json:"durability"`
	// Intent is a change that was begun and has not ended; nil = none.
	Intent *Intent `json:"intent,omitempty"`
	// LastFailover is when the last automatic change of the primary began, by the wall clock of its runner; zero = there was none.
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

// noPosition is that of a primary without a transaction, which a person has chosen.
const noPosition = "-"

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
	Kind Kind `json:"kind"`
	Step Step `json:"step"`
	// Old is the primary that is replaced, To the one that replaces it, once it is chosen.
	Old string `json:"old"`
	To  string `json:"to,omitempty"`
	// Position is how far To must come before it takes writes: all that was acknowledged is in it. It stays when another is chosen.
	Position string `json:"position,omitempty"`
	// Cut are hosts of which it is established that they receive nothing from Old any more; FenceConfirmed that Old's server was killed.
	Cut            []string `json:"cut,omitempty"`
	FenceConfirmed string   `json:"fence_confirmed,omitempty"` // how; "" = not
	// Began is when, by the wall clock of the runner that began it; By is who asked for it: "" = nobody, it is automatic.
	Began time.Time `json:"began"`
	By    string    `json:"by,omitempty"`
	// Forced says that a person has accepted the loss of transactions.
	Forced bool `json:"forced,omitempty"`
	// Spoilt says that Old has lost data: what it has says nothing of others, and it takes no writes again.
	Spoilt bool `json:"spoilt,omitempty"`
	// Why is the diagnosis that led to it.
	Why string `json:"why"`
	// Stopped is why the runner goes no further without a person; "" = it goes on.
	Stopped string `json:"stopped,omitempty"`
	// Loss is what may have been lost, for people; "" = nothing was.
	Loss string `json:"loss,omitempty"`
}

// waits is what a person can do about a change that waits for its old primary; "" = it does not.
func (i *Intent) waits(tag string) string {
	if i.Kind != Failover || i.Step != StepWithdraw {
		return ""
	}
	return "it waits until the server on " + i.Old + " serves, which may take long while it recovers: its error log says how far it is. If it never will: hostmesh mysql failover " + tag + " --force -m WHY has another take over, and accepts that transactions are lost"
}

// AddressAt is the host that is to have the address of the primary, as far as the record goes; "" = none at the moment.
func (r Record) AddressAt() string {
	i := r.Intent
	switch {
	case i == nil || i.Step == StepOpen:
		return r.Primary
	case i.Step == StepWithdraw:
		return i.Old
	case i.Kind == Switchover && stepIndex(i.Kind, i.Step) < stepIndex(i.Kind, StepAddress):
		return i.Old // refusing, in the end
	case i.To != "" && stepIndex(i.Kind, i.Step) >= stepIndex(i.Kind, StepAddress):
		return i.To
	}
	return ""
}

// Clone is a copy that shares nothing.
func (r Record) Clone() Record {
	r.Ackers, r.Shut, r.History = slices.Clone(r.Ackers), slices.Clone(r.Shut), slices.Clone(r.History)
	r.Starts, r.Fenced = maps.Clone(r.Starts), maps.Clone(r.Fenced)
	if r.Intent != nil {
		i := *r.Intent
		i.Cut = slices.Clone(i.Cut)
		r.Intent = &i
	}
	if r.Paused != nil {
		p := *r.Paused
		r.Paused = &p
	}
	return r
}

// Note puts an event into the history.
func (r *Record) Note(e Event) {
	r.History = slices.Insert(r.History, 0, e)
	if len(r.History) > HistoryLength {
		r.History = r.History[:HistoryLength]
	}
}

// Check tells why a record is not to be acted on, as one that a later build has written.
func (r Record) Check() error {
	if r.Format != RecordFormat {
		return fmt.Errorf("the cluster's record has format %d, and this build knows %d: bring all agents to one version", r.Format, RecordFormat)
	}
	if i := r.Intent; i != nil && !known(i.Kind, i.Step) {
		return fmt.Errorf("the cluster's record is at a step that this build does not know, %q of a %s: bring all agents to one version", i.Step, i.Kind)
	}
	return nil
}

// RecordFormat is that which this build writes.
const RecordFormat = 1

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
	// Loss is what may have been lost; "" = nothing.
	Loss string `json:"loss,omitempty"`
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
