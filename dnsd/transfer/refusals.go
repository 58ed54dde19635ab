package transfer

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// errSlow ends a transfer to a secondary that takes it too slowly.
var errSlow = errors.New("the secondary takes it too slowly")

const (
	refusalsEvery = time.Minute // one line for each asker, zone and rule
	maxRefusals   = 1024        // askers that are told apart; beyond, lines are left out and counted
	sweepEvery    = time.Second // those that are forgotten are looked for: it costs a look at all
)

// refusals writes refusals to the log, and keeps those who ask again and again from filling it.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex // guards the fields below
	told  map[refusal]*toldRefusal
	more  int // left out since the last line, because there are too many askers
	swept time.Time
}

type refusal struct {
	origin string
	from   netip.Addr
	why    rule
}

type toldRefusal struct {
	at   time.Time
	more int // refusals since
}

func (x *refusals) tell(origin string, from netip.Addr, key string, why rule) {
	now := time.Now()
	r := refusal{origin, from.Unmap(), why}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.told == nil {
		x.told = map[refusal]*toldRefusal{}
	}
	if t := x.told[r]; t != nil && now.Sub(t.at) < refusalsEvery {
		t.more++
		return
	}
	if len(x.told) >= maxRefusals {
		if now.Sub(x.swept) >= sweepEvery {
			x.sweep(now)
		}
		if x.told[r] == nil && len(x.told) >= maxRefusals {
			x.more++
			return
		}
	}
	again := 0
	if t := x.told[r]; t != nil {
		again = t.more
	}
	x.log.Warn("zone transfer refused", slog.String("zone", origin), slog.String("from", r.from.String()), slog.String("rule", string(why)),
		slog.String("reason", says[why]), slog.String("key", key), slog.Int("again", again), slog.Int("others", x.more))
	x.told[r], x.more = &toldRefusal{at: now}, 0
}

// sweep forgets those who have not asked for a while. The caller holds mu.
func (x *refusals) sweep(now time.Time) {
	x.swept = now
	for old, t := range x.told {
		if now.Sub(t.at) >= refusalsEvery {
			delete(x.told, old)
		}
	}
}
