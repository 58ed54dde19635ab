package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// outcome is what the writer knows of its write.
type outcome uint8

const (
	unknown outcome = iota // the answer was lost: it may stand, or not
	acked                  // it stands
	idle                   // accepted, and there was nothing to change
	refused                // it does not stand
)

// judge is the outcome that an answer tells of.
func judge(err error, revision string) outcome {
	var e *api.Error
	switch {
	case err == nil && revision == "":
		return idle
	case err == nil:
		return acked
	case errors.As(err, &e) && strings.Contains(e.Message, "may be lost"): // the disk failed with the write on its way
		return unknown
	case errors.As(err, &e) && (e.Status < 500 || e.Status == http.StatusServiceUnavailable):
		return refused
	}
	return unknown
}

// write is one write of a writer, as the ledger remembers it.
type write struct {
	kind      kind
	outcome   outcome
	agent     uint8 // by number
	key, key2 uint8 // which of the writer's hosts
	tag       uint8
	other     bool         // the first host by its other name
	other2    bool         // likewise the second
	of        int32        // of a deleteOnce: the number of what it deletes
	revision  hostdb.Stamp // of an acknowledged one
	began     time.Duration
	answered  time.Duration
}

// ledger is all writes of one writer, in its order. Their number is their name: every write's log message is
// writer-number, and so is what it writes, so that whatever is found in an agent tells where it is from.
type ledger struct {
	mu     sync.Mutex // guards writes
	writes []write
}

// begin enters a write before it is sent, and returns its number.
func (l *ledger) begin(w write) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, w)
	return len(l.writes) - 1
}

func (l *ledger) end(n int, o outcome, revision hostdb.Stamp, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes[n].outcome, l.writes[n].revision, l.writes[n].answered = o, revision, at
}

// token names a write.
func token(writer, n int) string { return fmt.Sprintf("w%d-%d", writer, n) }

// parseToken reads what token writes; ok is false for a log message that is none of ours.
func parseToken(text string) (writer, n int, ok bool) {
	a, b, found := strings.Cut(text, "-")
	a, is := strings.CutPrefix(a, "w")
	writer, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	return writer, n, found && is && err1 == nil && err2 == nil
}
