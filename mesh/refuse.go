package mesh

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The reasons for which a peer is refused, as they are logged and counted.
const (
	refuseKey      = "wrong mesh key"
	refuseMesh     = "other mesh"
	refuseRemoved  = "removed node"
	refuseProtocol = "protocol version not understood"
	refuseIdentity = "node id does not match"
)

// maxRemembered bounds what is remembered of strangers, who choose their addresses freely.
const maxRemembered = 4096

// What is logged of strangers at most, whatever addresses they give themselves: so many lines at once, and then one each
// linesEvery.
const (
	linesAtOnce = 40
	linesEvery  = 5 * time.Second
)

// refusals counts peers that are turned away and logs each address and reason once, not once per attempt: a box of
// another mesh that is pointed here tries for ever.
type refusals struct {
	log  *slog.Logger
	now  func() time.Time
	key  atomic.Uint64
	mesh atomic.Uint64
	rest atomic.Uint64

	garbage  atomic.Uint64
	overload atomic.Uint64

	mu      sync.Mutex // guards the fields below
	seen    map[refusal]bool
	quiet   map[netip.Addr]time.Time // when garbage from there was last logged
	skipped map[netip.Addr]int       // and how many were not since
	lines   int                      // that may be logged at once
	filled  time.Time                // when lines last grew
	silent  int                      // lines that were left out since the last one
}

type refusal struct {
	addr   netip.Addr
	reason string
}

func newRefusals(log *slog.Logger, now func() time.Time) *refusals {
	return &refusals{log: log, now: now,
		seen: make(map[refusal]bool), quiet: make(map[netip.Addr]time.Time), skipped: make(map[netip.Addr]int),
		lines: linesAtOnce, filled: now()}
}

// line reports whether a line may be logged, and how many were not since the last. The caller holds mu.
func (r *refusals) line() (unlogged int, ok bool) {
	now := r.now()
	if n := int(min(now.Sub(r.filled)/linesEvery, linesAtOnce)); n > 0 {
		r.lines, r.filled = min(r.lines+n, linesAtOnce), now
	}
	if r.lines == 0 {
		r.silent++
		return 0, false
	}
	r.lines--
	unlogged, r.silent = r.silent, 0
	return unlogged, true
}

// refuse counts one refusal, and logs it when it is the first of its kind from the address.
func (r *refusals) refuse(addr netip.AddrPort, reason string, args ...any) {
	switch reason {
	case refuseKey:
		r.key.Add(1)
	case refuseMesh:
		r.mesh.Add(1)
	default:
		r.rest.Add(1)
	}
	k := refusal{addr.Addr().Unmap(), reason}
	r.mu.Lock()
	loud, unlogged := false, 0
	if !r.seen[k] {
		if len(r.seen) >= maxRemembered {
			clear(r.seen)
		}
		if unlogged, loud = r.line(); loud {
			r.seen[k] = true
		}
	}
	r.mu.Unlock()
	if loud {
		args = append([]any{"addr", addr.String(), "reason", reason}, args...)
		if unlogged > 0 {
			args = append(args, "unlogged", unlogged)
		}
		r.log.Warn("peer refused", args...)
	}
}

// forget lets the next refusal of the address be logged again: it belonged to the mesh in between.
func (r *refusals) forget(addr netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.seen {
		if k.addr == addr {
			delete(r.seen, k)
		}
	}
}

// noise counts a connection that spoke something else, and logs at most one a minute for each address.
func (r *refusals) noise(addr netip.AddrPort, err error) {
	r.garbage.Add(1)
	a, now := addr.Addr().Unmap(), r.now()
	r.mu.Lock()
	last, known := r.quiet[a]
	loud := !known || now.Sub(last) >= time.Minute
	unlogged := r.skipped[a]
	if loud {
		var others int
		if others, loud = r.line(); loud {
			unlogged += others
		}
	}
	if loud {
		if len(r.quiet) >= maxRemembered {
			clear(r.quiet)
			clear(r.skipped)
		}
		r.quiet[a] = now
		delete(r.skipped, a)
	} else if known { // else it is among the silent ones
		r.skipped[a]++
	}
	r.mu.Unlock()
	if loud {
		r.log.Warn("peer stream did not speak the protocol", "addr", addr.String(), "err", err, "unlogged", unlogged)
	}
}
