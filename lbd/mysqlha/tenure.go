package mysqlha

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// RestartGrace is for how long an agent may be away because it is started anew: so long the address of a primary stays on its box when the agent there stops in order, and
// so long a primary whose agent is gone is left one. A package's upgrade takes 1 to 3 s, and more on a box that is busy. A failover that falls into it may have to wait for the rest of it before the
// next host has the address.
const RestartGrace = 10 * time.Second

// The times of a tenure.
const (
	// tenureHold is for how long one look counts: as long as a lease does, so that the address behaves alike.
	tenureHold = 2 * time.Second
	// tenureLook is how often it is looked: an address is refreshed soon after each.
	tenureLook = 500 * time.Millisecond
	// tenurePatience bounds one look.
	tenurePatience = time.Second
)

// Tenure says whether this host may have the address of the primary: it implements vip.Lease. It is valid for 2 s from sending a read of the
// record, through the quorum, that said that this host is the primary, or is becoming it, in an epoch; and, when the quorum cannot be asked, from asking
// the own server and hearing that a replica is connected which acknowledges: a failover that had passed its gate would have cut it. It ends at once
// when a read says otherwise. It is safe for concurrent use.
type Tenure struct {
	tag, host string
	records   Records
	// ackers asks the own server how many replicas that acknowledge are connected; false = it did not say.
	ackers  func(ctx context.Context) (int, bool)
	log     *slog.Logger
	renewed chan struct{}
	over    chan struct{}

	mu    sync.Mutex // guards the fields below
	epoch uint64
	sent  time.Time // of the look on which it rests; zero = none
	quiet bool      // that was a read of the record, which had no change under way
	ended string    // why it ended for good
}

// NewTenure makes one for an epoch; it is not valid before Run has looked. ackers may be nil.
func NewTenure(tag, host string, epoch uint64, records Records, ackers func(context.Context) (int, bool), log *slog.Logger) *Tenure {
	if log == nil {
		log = slog.Default()
	}
	return &Tenure{tag: tag, host: host, epoch: epoch, records: records, ackers: ackers, log: log, renewed: make(chan struct{}, 1), over: make(chan struct{})}
}

// Run looks until ctx ends, or the tenure does: then it returns why.
func (t *Tenure) Run(ctx context.Context) error {
	defer t.end("nobody looks any more")
	for {
		if err := t.look(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.over:
			return errors.New(t.Why())
		case <-time.After(tenureLook):
		}
	}
}

// look asks once. An error ends it.
func (t *Tenure) look(ctx context.Context) error {
	sent := time.Now()
	asked, cancel := context.WithTimeout(ctx, tenurePatience)
	defer cancel()
	r, _, err := t.records.Load(asked, t.tag)
	if err == nil {
		if why := deposed(r, t.host, t.epoch); why != "" {
			t.end(why)
			return errors.New(why)
		}
		t.extend(sent, r.Intent == nil && r.AddressAt() == t.host)
		return nil
	}
	if t.ackers == nil || ctx.Err() != nil {
		return nil
	}
	sent = time.Now()
	asked, cancel2 := context.WithTimeout(ctx, tenurePatience)
	defer cancel2()
	// Only a tenure that a read has begun is extended: by itself a server that has ackers may be anything.
	if n, ok := t.ackers(asked); ok && n > 0 && t.began() {
		t.extend(sent, false)
		t.log.Debug("the quorum does not answer; the address stays, for replicas that acknowledge are connected", "tag", t.tag, "ackers", n, "err", err)
	}
	return nil
}

// deposed tells why a record says that a host is not to have the address; "" = it is to.
func deposed(r Record, host string, epoch uint64) string {
	switch i := r.Intent; {
	case r.AddressAt() == host, r.Epoch < epoch: // a read that is older than the order says nothing
		return ""
	case i != nil:
		return "a " + string(i.Kind) + " has begun, which takes the address away"
	}
	return "the primary is " + r.Primary
}

func (t *Tenure) began() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.sent.IsZero()
}

func (t *Tenure) extend(sent time.Time, quiet bool) {
	t.mu.Lock()
	if t.ended != "" || !sent.After(t.sent) {
		t.mu.Unlock()
		return
	}
	t.sent, t.quiet = sent, quiet
	t.mu.Unlock()
	select {
	case t.renewed <- struct{}{}:
	default:
	}
}

// Order moves it to a later epoch: this host was told to take the address again.
func (t *Tenure) Order(epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch = max(t.epoch, epoch)
}

// End ends it at once: this host was told to let the address go, or its server was killed.
func (t *Tenure) End(why string) { t.end(why) }

func (t *Tenure) end(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == "" {
		t.ended = why
		close(t.over)
	}
}

// Why is why it ended; "" = it has not.
func (t *Tenure) Why() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// Settled reports whether it is valid by a read of the record, and no change was under way: then the address may stay for RestartGrace without anybody who looks. What can happen in that time
// is what can on a host that is cut off: the next holder waits as long as it hears this one's kernel, and has it besides where it does not.
func (t *Tenure) Settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.quiet && t.ended == "" && time.Since(t.sent) < tenureHold
}

// Valid implements vip.Lease.
func (t *Tenure) Valid() bool {
	_, left := t.Renewal()
	return left > 0
}

// Renewal implements vip.Lease.
func (t *Tenure) Renewal() (ago, left time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != "" || t.sent.IsZero() {
		return tenureHold, 0
	}
	ago = time.Since(t.sent)
	return ago, max(tenureHold-ago, 0)
}

// Renewed implements vip.Lease.
func (t *Tenure) Renewed() <-chan struct{} { return t.renewed }
