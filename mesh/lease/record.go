package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Record is one compare-and-set record. Version grows with each change of it, and is never used again, also not when the record was
// deleted in between. A record that does not exist has version 0.
type Record struct {
	Key     string
	Value   []byte
	Version uint64
}

// Get reads a record: what it returns was true at some time during the call. ErrNotFound when there is none.
func (l *Lease) Get(ctx context.Context, key string) (Record, error) {
	settle := l.unsettled.has(key)
	a, err := l.client.ask(ctx, &asking{Get: &getting{Key: key, Settle: settle}}, untilDone)
	if err != nil {
		return Record{}, fmt.Errorf("get record %q: %w", key, err)
	}
	if settle {
		l.unsettled.drop(key)
	}
	if len(a.Records) == 0 {
		return Record{}, fmt.Errorf("get record %q: %w", key, ErrNotFound)
	}
	return Record(a.Records[0]), nil
}

// Put writes a record if it still has the version given (0: if it does not exist), and returns its new version. ErrConflict when
// it has another. ErrUnknown: it may have been written; the next Get on this node tells, because it waits for what was proposed
// before. Keys that begin with name/, grant/ and
// counter/ have functions of their own.
func (l *Lease) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	if err := checkName("record", key); err != nil {
		return 0, err
	}
	if len(value) > maxValue {
		return 0, fmt.Errorf("put record %q: %w: %d bytes, at most %d", key, ErrInvalid, len(value), maxValue)
	}
	return l.put(ctx, op{Kind: opPut, Key: key, Value: value, If: version})
}

// PutHeld is Put by the holder of a duty: it writes only while g is the grant under which the duty is held, in the same moment. ErrLost
// when it is not: another may hold it.
func (l *Lease) PutHeld(ctx context.Context, g *Grant, key string, value []byte, version uint64) (uint64, error) {
	if err := checkName("record", key); err != nil {
		return 0, err
	}
	if len(value) > maxValue {
		return 0, fmt.Errorf("put record %q: %w: %d bytes, at most %d", key, ErrInvalid, len(value), maxValue)
	}
	return l.put(ctx, op{Kind: opPut, Key: key, Value: value, If: version, Duty: g.Duty, Fence: g.Fence})
}

func (l *Lease) put(ctx context.Context, p op) (uint64, error) {
	a, err := l.operate(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("put record %q: %w", p.Key, err)
	}
	return a.Version, nil
}

// Delete deletes a record if it still has the version given. Errors as for Put, and ErrNotFound.
func (l *Lease) Delete(ctx context.Context, key string, version uint64) error {
	if _, err := l.operate(ctx, op{Kind: opDelete, Key: key, If: version}); err != nil {
		return fmt.Errorf("delete record %q: %w", key, err)
	}
	return nil
}

func (l *Lease) operate(ctx context.Context, p op) (answer, error) {
	a, err := l.client.ask(ctx, &asking{Op: p.encode()}, untilSent)
	if errors.Is(err, ErrUnknown) && p.Key != "" {
		l.unsettled.add(p.Key)
	}
	return a, err
}

// keys is a bounded set of keys. When it is full it holds all of them.
type keys struct {
	mu  sync.Mutex // guards set
	set map[string]bool
	all bool
}

func (k *keys) add(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil {
		k.set = map[string]bool{}
	}
	if k.set[key] = true; len(k.set) > 10_000 {
		k.set, k.all = nil, true
	}
}

func (k *keys) drop(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.set, key)
}

func (k *keys) has(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all || k.set[key]
}

// Changes is what Watch saw.
type Changes struct {
	Records []Record // sorted by key; written since, with their present values
	Deleted []string // sorted
	Anew    bool     // Records are all that there are: what is not among them does not exist
	AsOf    uint64   // where to go on
}

// List reads all records whose keys begin with prefix, sorted by key, all of one moment.
func (l *Lease) List(ctx context.Context, prefix string) (Changes, error) {
	a, err := l.client.ask(ctx, &asking{Get: &getting{Key: prefix, Prefix: true}}, untilDone)
	if err != nil {
		return Changes{}, fmt.Errorf("list records %q: %w", prefix, err)
	}
	c := changesOf(a)
	c.Anew = true
	return c, nil
}

// Watch waits, for as long as ctx allows and no longer than half a minute, until a record whose key begins with prefix has changed
// after asOf (of List, or of the last Watch). With nothing new it returns no records and a new AsOf. Of several changes of one
// record only the last is seen.
func (l *Lease) Watch(ctx context.Context, prefix string, asOf uint64) (Changes, error) {
	end := time.Now().Add(maxWait)
	if limit, ok := ctx.Deadline(); ok && limit.Before(end) {
		end = limit.Add(-l.times.Renew)
	}
	for {
		left := max(time.Until(end), 0)
		q := &getting{Key: prefix, Prefix: true, After: max(asOf, 1), WaitMS: int(left.Milliseconds())}
		a, err := l.client.ask(ctx, &asking{Get: q}, once)
		switch {
		case err == nil && (len(a.Records) > 0 || len(a.Deleted) > 0 || a.Anew || time.Now().After(end)):
			return changesOf(a), nil
		case err != nil && (ctx.Err() != nil || time.Now().After(end)):
			return Changes{}, fmt.Errorf("watch records %q: %w", prefix, err)
		case err == nil:
			asOf = max(asOf, a.AsOf)
		}
		// The leader changed, or has too many watchers.
		select {
		case <-ctx.Done():
		case <-time.After(l.times.Renew / 2):
		}
	}
}

func changesOf(a answer) Changes {
	c := Changes{AsOf: a.AsOf, Anew: a.Anew, Deleted: a.Deleted}
	for _, r := range a.Records {
		c.Records = append(c.Records, Record(r))
	}
	slices.SortFunc(c.Records, func(x, y Record) int { return strings.Compare(x.Key, y.Key) })
	slices.Sort(c.Deleted)
	return c
}

// limiter bounds how many do something at a time.
type limiter struct{ n atomic.Int64 }

const maxWatching = 256 // watchers that wait at a leader; more ask again and again

func (w *limiter) enter() bool {
	if w.n.Add(1) > maxWatching {
		w.n.Add(-1)
		return false
	}
	return true
}

func (w *limiter) leave() { w.n.Add(-1) }

// ClaimName makes a name unique within a space: it belongs to owner from now on, or ErrTaken names whose it is. Who has it
// already gets it again.
func (l *Lease) ClaimName(ctx context.Context, space, name, owner string) error {
	return l.take(ctx, namePrefix+space+"/"+name, owner)
}

// FreeName gives a name back. It is harmless when it is not owner's.
func (l *Lease) FreeName(ctx context.Context, space, name, owner string) error {
	key := namePrefix + space + "/" + name
	r, err := l.Get(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && string(r.Value) != owner:
		return nil
	case err != nil:
		return err
	}
	if err := l.Delete(ctx, key, r.Version); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// take makes a record whose value is its owner, if nobody has.
func (l *Lease) take(ctx context.Context, key, owner string) error {
	for {
		_, err := l.Put(ctx, key, []byte(owner), 0)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ErrConflict) && !errors.Is(err, ErrUnknown):
			return err
		}
		// Somebody has it; after an answer that was lost, perhaps this owner.
		r, gerr := l.Get(ctx, key)
		switch {
		case gerr == nil && string(r.Value) == owner:
			return nil
		case gerr == nil:
			return fmt.Errorf("%q: %w: %s", key, ErrTaken, clip(string(r.Value)))
		case !errors.Is(gerr, ErrNotFound):
			return gerr
		}
	}
}

// Grant makes this node the owner of something for good, such as a block of addresses: of the first in choices that nobody owns. It
// is written down here as well, so that it survives the loss of the group. ErrTaken when all have owners; ErrRecovering while the
// group has not heard of all that somebody may own.
func (l *Lease) Grant(ctx context.Context, pool string, choices []string) (string, error) {
	owner := l.cfg.NodeID
	g := l.group()
	if l.own.owing(g) {
		return "", fmt.Errorf("%s: %w", pool, toldNothing())
	}
	for _, c := range choices {
		key := grantPrefix + pool + "/" + c
		// It is written down before it is asked for: what this node owns and does not know of could be given away after a recovery.
		if err := l.own.add(key, owner, false); err != nil {
			return "", err
		}
		err := l.take(ctx, key, owner)
		switch {
		case err == nil:
			err := l.own.add(key, owner, true)
			if now := l.group(); err == nil && heardOf(now) != heardOf(g) { // whichever granted it, this one must have heard of it
				err = l.own.forget()
			}
			return c, err
		case errors.Is(err, ErrTaken):
			if err := l.own.drop(key); err != nil {
				return "", err
			}
		case errors.Is(err, ErrUnknown), errors.Is(err, ErrNoLeader): // it may be this node's, who does not use it before it is asked for again
			return "", err
		default:
			return "", errors.Join(err, l.own.drop(key))
		}
	}
	return "", fmt.Errorf("%s: %w: each of the %d choices", pool, ErrTaken, len(choices))
}

// Granted are the choices of a pool that this node owns. ErrRecovering while it owns some and the group that it is in now has not heard of
// them; what that has given to another is not among them. It asks nobody.
func (l *Lease) Granted(pool string) ([]string, error) {
	list, err := l.own.list(l.group(), grantPrefix+pool+"/")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pool, err)
	}
	return list, nil
}

// GiveBack ends a permanent grant of this node.
func (l *Lease) GiveBack(ctx context.Context, pool, choice string) error {
	key := grantPrefix + pool + "/" + choice
	r, err := l.Get(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && string(r.Value) != l.cfg.NodeID:
		return l.own.drop(key)
	case err != nil:
		return err
	}
	if err := l.Delete(ctx, key, r.Version); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return l.own.drop(key)
}

// Next adds n to a counter and returns its new value, which nobody else gets. A counter begins at 0 and only grows, also when the group
// was lost and recovered; numbers may be left out.
func (l *Lease) Next(ctx context.Context, counter string, n uint64) (uint64, error) {
	if n == 0 {
		return 0, fmt.Errorf("counter %q: %w: it must grow", counter, ErrInvalid)
	}
	// A lost answer only leaves numbers out: it may be asked for again.
	a, err := l.client.ask(ctx, &asking{Op: op{Kind: opAdd, Key: counterPrefix + counter, Count: n}.encode()}, untilDone)
	if err != nil {
		return 0, fmt.Errorf("counter %q: %w", counter, err)
	}
	return a.Version, nil
}
