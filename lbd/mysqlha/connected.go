package mysqlha

import (
	"context"
	"sync"
	"time"

	"hostmesh/hostdb/section"
)

// Connected remembers the record that was read last, and tells how many of its ackers are still the own server's. It implements Records. The zero value
// of all but its exported fields is right; it is safe for concurrent use.
type Connected struct {
	Records
	// Own is the own server, State what the agent on another host says of its server.
	Own   Server
	State func(ctx context.Context, host, tag string) (LocalState, error)

	mu   sync.Mutex // guards last
	last Record
}

// Load implements Records.
func (c *Connected) Load(ctx context.Context, tag string) (Record, uint64, error) {
	r, version, err := c.Records.Load(ctx, tag)
	if err == nil {
		c.mu.Lock()
		c.last = r.Clone()
		c.mu.Unlock()
	}
	return r, version, err
}

// Ackers are how many replicas that acknowledge are still this server's: it has such connections, and their agents have heard of no later change. What the
// server says is not enough: on a host that was cut off connections seem to be there for minutes. false = the server did not say, or does not wait for them.
//
// In durability strict each one says that there was no failover, for one passes its gate only when all are cut. In available a failover goes on without those that it does not
// reach, as from the side of a cut that has the quorum; so there it takes all that are counted, or else none is.
func (c *Connected) Ackers(ctx context.Context, tag string) (n int, ok bool) {
	f, err := c.Own.Observe(ctx)
	switch {
	case err != nil || !f.Semi.Source || !f.Semi.Active: // one that has waited long enough goes on without them
		return 0, false
	case f.Semi.Clients == 0:
		return 0, true
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	all := last.Durability == string(section.Available)
	said := make(chan bool, len(last.Ackers))
	for _, host := range last.Ackers {
		go func() {
			st, err := c.State(ctx, host, tag)
			said <- err == nil && st.Process == ProcessRuns && st.Epoch <= last.Epoch
		}()
	}
	// One that is away does not answer before ctx ends. Where one is enough the others are not waited for: the next look would come too late.
	var enough <-chan time.Time
	for range last.Ackers {
		var yes bool
		select {
		case yes = <-said:
		case <-enough:
			return min(n, f.Semi.Clients), true
		}
		if yes {
			n++
		}
		if yes && !all && enough == nil {
			enough = time.After(ackersWait)
		}
	}
	n = min(n, f.Semi.Clients)
	if all && n < len(last.Ackers) {
		return 0, true
	}
	return n, true
}

// ackersWait is how long the other replicas are waited for when one has said that it is this server's.
const ackersWait = 100 * time.Millisecond
