package dutybox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"hostmesh/mesh/lease"
	"hostmesh/mesh/lease/leasetest"
)

// patience is how long a client waits for an answer.
const patience = 4 * time.Second

// load has clients read and write records until the process ends or is told to stop.
func (c *child) load(l Load) {
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	if c.unload != nil {
		c.unload()
	}
	c.unload = cancel
	c.mu.Unlock()
	for i := range l.Clients {
		c.wg.Go(func() {
			rng := rand.New(rand.NewPCG(l.Seed, uint64(i)))
			known := map[string]uint64{} // versions, by key
			round := int64(0)
			for n := 0; ctx.Err() == nil; n++ {
				if at := int64(Now() / l.Round); at != round {
					round = at
					clear(known)
				}
				c.call(Op{Client: i, N: n, Call: c.choose(rng, fmt.Sprintf("r%d/k%d", round, rng.IntN(l.Keys)), i, n, known)}, known)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(rng.Int64N(int64(l.Pause) + 1))):
				}
			}
		})
	}
}

// choose makes the next call of a client.
func (c *child) choose(rng *rand.Rand, key string, client, n int, known map[string]uint64) leasetest.Call {
	call := leasetest.Call{Key: key, Version: known[key]}
	switch dice := rng.IntN(100); {
	case dice < 45:
		call.Kind, call.Version = leasetest.Get, 0
	case dice < 85:
		call.Kind, call.Value = leasetest.Put, fmt.Sprintf("%s.%d.%d.%d", c.cfg.Name, c.cfg.Incarnation, client, n)
	case dice < 92 && call.Version > 0:
		call.Kind = leasetest.Delete
	default:
		call.Kind, call.Key, call.Version = leasetest.Next, "count/"+key, uint64(1+rng.IntN(3))
	}
	return call
}

// call tells of a call, makes it, and tells what came of it.
func (c *child) call(o Op, known map[string]uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o.At = Now()
	began := o // the encoder is done with it when send returns, but o changes
	c.send(Event{Began: &began})
	var err error
	switch o.Call.Kind {
	case leasetest.Get:
		var r lease.Record
		if r, err = c.lease.Get(ctx, o.Call.Key); err == nil || errors.Is(err, lease.ErrNotFound) {
			o.Seen.OK, o.Seen.Value, o.Seen.Version, err = true, string(r.Value), r.Version, nil
			known[o.Call.Key] = r.Version
		}
	case leasetest.Put:
		if o.Seen.Version, err = c.lease.Put(ctx, o.Call.Key, []byte(o.Call.Value), o.Call.Version); err == nil {
			known[o.Call.Key] = o.Seen.Version
		}
	case leasetest.Delete:
		if err = c.lease.Delete(ctx, o.Call.Key, o.Call.Version); err == nil {
			delete(known, o.Call.Key)
		}
	case leasetest.Next:
		o.Seen.Version, err = c.lease.Next(ctx, o.Call.Key, o.Call.Version)
	}
	o.At = Now()
	switch writes := o.Call.Kind == leasetest.Put || o.Call.Kind == leasetest.Delete; {
	case err == nil:
		o.Seen.OK = true
	case !writes: // a counter may leave numbers out
		o.Nothing = true
	case errors.Is(err, lease.ErrConflict):
	case errors.Is(err, lease.ErrNotFound):
		o.Seen.NotFound = true
	case (errors.Is(err, lease.ErrNoLeader) || errors.Is(err, lease.ErrNoGroup)) && !errors.Is(err, lease.ErrUnknown):
		o.Nothing = true
	default:
		o.Seen.Unknown = true
	}
	if err != nil {
		o.Why = err.Error()
	}
	c.send(Event{Ended: &o})
}
