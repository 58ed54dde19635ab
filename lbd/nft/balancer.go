package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

// Clock tells the time.
type Clock interface{ Now() time.Time }

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

// Config is what a Balancer needs. Begin with DefaultConfig.
type Config struct {
	// DrainLimit is how long flows of a draining backend may go on, where its service does not say.
	DrainLimit time.Duration
	// Look is how often Run looks whether somebody changed our tables, and, while backends drain, at their flows.
	Look   time.Duration
	Clock  Clock
	Logger *slog.Logger
}

// DefaultConfig returns what is right for most boxes.
func DefaultConfig() Config {
	return Config{
		DrainLimit: 5 * time.Minute, // long downloads end; what is open for ever is not waited for
		Look:       time.Second,     // asking for the number of the kernel's generation costs some microseconds
		Clock:      realClock{},
		Logger:     slog.Default(),
	}
}

// Balancer keeps the kernel as the last Table says. It is safe for concurrent use. It works in the network namespace of the process.
type Balancer struct {
	cfg      Config
	settings settings
	kernel   kernel
	wake     chan struct{} // one slot, filled with each Apply

	mu         sync.Mutex // guards what follows, and orders transactions
	closed     bool
	table      Table               // as applied, normal
	applied    bool                // there is one
	have       map[family]*ruleset // what the kernel had at generation; nil = not known
	generation uint32
	divisions  divisions
	draining   map[member]time.Time // since when
	retired    map[place]bool       // services that went since the last look
	again      bool                 // go through the flows at the next look, too: a packet may have been on its way
	live       map[member]int       // flows, as of the last time they were gone through
	complaint  string               // the last error of Run, logged once
	counts     counts
}

// counts of what was done since Open.
type counts struct{ transactions, steps, repairs, errors, ended uint64 }

// Open makes a Balancer. The kernel is first touched by Apply.
func Open(cfg Config) (*Balancer, error) {
	switch {
	case cfg.DrainLimit <= 0 || cfg.Look <= 0:
		return nil, fmt.Errorf("nft: DrainLimit %s and Look %s must be above zero", cfg.DrainLimit, cfg.Look)
	case cfg.Clock == nil || cfg.Logger == nil:
		return nil, errors.New("nft: Clock and Logger must be set")
	}
	return &Balancer{
		cfg: cfg, settings: settings{"/proc/sys"}, kernel: kernel{TableName}, wake: make(chan struct{}, 1),
		draining: map[member]time.Time{}, retired: map[place]bool{}, divisions: divisions{}, live: map[member]int{},
	}, nil
}

// Apply makes the kernel balance what t says and nothing else, in one transaction: each new flow meets the former table or this one. What
// is as it should be is left alone, flow counts go on, and the same table again changes nothing. Flows of backends that are not in t any more end.
// After an error the former table stands, or this one with an error about flows; it is safe to call again. ErrTable is an error of the caller.
func (b *Balancer) Apply(ctx context.Context, t Table) error {
	next, err := t.Normal()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	defer func() {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}()
	if err := b.apply(next); err != nil {
		b.counts.errors++
		return err
	}
	return nil
}

// idle reports whether the kernel has nothing of ours to be looked after.
func (b *Balancer) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed || !b.applied || len(b.table.Services) == 0 && !b.again
}

func (b *Balancer) apply(next Table) error {
	for _, f := range []family{ip4, ip6} {
		if encodes(next, f) {
			changed, err := b.settings.need(f)
			for _, what := range changed {
				b.cfg.Logger.Info("kernel setting changed for forwarding", "setting", what)
			}
			if err != nil {
				return err
			}
		}
	}
	if _, err := b.write(next); err != nil {
		return err
	}
	now := b.cfg.Clock.Now()
	sweep := !b.applied
	is, had := members(next), map[place]bool{}
	for m := range members(b.table) {
		if _, stays := is[m]; !stays {
			sweep = true
			delete(b.draining, m)
		}
	}
	for _, s := range b.table.Services {
		had[s.key()], b.retired[s.key()] = true, true
	}
	for _, s := range next.Services {
		sweep = sweep || !had[s.key()] // a flow may be remembered from before there was a service
		delete(b.retired, s.key())
	}
	sweep = sweep || len(b.retired) > 0
	for m, state := range is {
		_, since := b.draining[m]
		switch {
		case state != Draining:
			delete(b.draining, m)
		case !since:
			b.draining[m] = now
			sweep = true
		}
	}
	b.table, b.applied = next, true
	if !sweep {
		return nil
	}
	b.again = true
	return b.sweep()
}

// encodes says whether t has anything of a family.
func encodes(t Table, f family) bool {
	for _, s := range t.Services {
		if s.VIP.Is4() == (f == ip4) {
			return true
		}
	}
	return false
}

func members(t Table) map[member]State {
	out := make(map[member]State)
	for _, s := range t.Services {
		for _, b := range s.Backends {
			out[s.member(b)] = b.State
		}
	}
	return out
}

// write makes the kernel's tables those of next, and reports how many steps that took.
func (b *Balancer) write(next Table) (int, error) {
	generation, err := b.kernel.generation()
	if err != nil {
		return 0, fmt.Errorf("ask the kernel for its rules: %w", explain(err))
	}
	if b.have != nil && generation == b.generation && b.applied && reflect.DeepEqual(b.table, next) {
		return 0, nil
	}
	want := map[family]*ruleset{ip4: b.divisions.encode(next, ip4), ip6: b.divisions.encode(next, ip6)}
	b.divisions.forget(next)
	have := b.have
	if have != nil && generation != b.generation {
		have = nil
	}
	b.have = nil
	// What is known may be out of date by the time of the commit, which then fails as a whole; and what somebody put into our table may be in the way.
	for attempt := 0; ; attempt++ {
		if have == nil {
			if have, generation, err = b.look(); err != nil {
				return 0, err
			}
		}
		steps, n := map[family][]step{}, 0
		for f := range want {
			steps[f] = diff(have[f], want[f])
			if attempt == 2 {
				steps[f] = anew(have[f], want[f])
			}
			n += len(steps[f])
		}
		if n > 0 {
			if err := b.kernel.commit(steps); err != nil && attempt < 2 {
				have = nil
				continue
			} else if err != nil {
				return 0, fmt.Errorf("change the kernel's table %s: %w", TableName, explain(err))
			}
			b.counts.transactions++
			b.counts.steps += uint64(n)
			b.cfg.Logger.Debug("balancing rules changed", "ip", steps[ip4], "ip6", steps[ip6])
			// Who came in between is seen at the next look: the number is then higher than this one.
			generation++
		}
		b.have, b.generation = want, generation
		return n, nil
	}
}

// look reads both tables as of one generation.
func (b *Balancer) look() (map[family]*ruleset, uint32, error) {
	var last error
	for range 10 {
		before, err := b.kernel.generation()
		if err != nil {
			return nil, 0, fmt.Errorf("ask the kernel for its rules: %w", explain(err))
		}
		out := make(map[family]*ruleset)
		last = nil
		for _, f := range []family{ip4, ip6} {
			r, err := b.kernel.read(f)
			if errors.Is(err, errForeign) {
				b.cfg.Logger.Warn("somebody put something into our table; it is made anew", "table", string(f)+" "+TableName, "error", err)
				r.chains = map[string]*chain{chainIn: {hook: &hook{}}} // differs from all there can be
				err = nil
			}
			if err != nil {
				last = err
				break
			}
			out[f] = r
		}
		after, err := b.kernel.generation()
		if err == nil && last == nil && before == after {
			return out, after, nil
		}
		if last == nil {
			last = errors.New("others change the kernel's rules all the time")
		}
	}
	return nil, 0, fmt.Errorf("read the kernel's table %s: %w", TableName, explain(last))
}

// sweep ends the flows that must not go on.
func (b *Balancer) sweep() error {
	v := judge(b.table, b.draining, b.retired, b.cfg.DrainLimit, b.cfg.Clock.Now())
	total := 0
	for _, f := range []family{ip4, ip6} {
		any := false
		for p := range v.ours {
			any = any || p.vip.Addr().Is4() == (f == ip4)
		}
		if !any {
			continue
		}
		n, err := tracked(f, v.drop)
		total += n
		b.counts.ended += uint64(n)
		if err != nil {
			b.again = true
			return explain(err)
		}
	}
	b.live = v.counted
	if total > 0 {
		b.cfg.Logger.Info("flows of backends that are out were ended", "flows", total)
	}
	return nil
}

// Run looks after the kernel until ctx ends: tables that somebody changed are put right, and flows of draining backends end at their limit. What is
// in the kernel stays when Run returns; Close removes it. As long as there is no service it does nothing.
func (b *Balancer) Run(ctx context.Context) error {
	for {
		for b.idle() {
			select {
			case <-ctx.Done():
				return nil
			case <-b.wake:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(b.cfg.Look):
		}
		b.mu.Lock()
		err := b.tick()
		text := ""
		if err != nil {
			b.counts.errors++
			text = err.Error()
		}
		if text != b.complaint {
			b.complaint = text
			if err != nil {
				b.cfg.Logger.Error("the kernel cannot be kept as it should be", "error", err)
			} else {
				b.cfg.Logger.Info("the kernel is as it should be again")
			}
		}
		b.mu.Unlock()
	}
}

func (b *Balancer) tick() error {
	if b.closed || !b.applied {
		return nil
	}
	n, err := b.write(b.table)
	if err != nil {
		return err
	}
	if n > 0 {
		b.counts.repairs++
		b.again = true
		b.cfg.Logger.Warn("somebody had changed our table; it was put right", "table", TableName, "steps", n)
	}
	if b.again || len(b.draining) > 0 {
		b.again = false
		if err := b.sweep(); err != nil {
			return err
		}
		clear(b.retired)
	}
	return nil
}

// Close removes our tables and ends the flows that went through them. It is idempotent.
func (b *Balancer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	var err error
	if b.applied {
		err = b.apply(Table{})
	}
	b.closed = err == nil
	return err
}
