package mysqlha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// ErrDiffers is returned when a copy was compared, and is not what it was copied from.
var ErrDiffers = errors.New("the copy differs from the server that it was compared with")

// verify compares a copy with a server that counts, at one position, and has its host remember what came of it. It follows the primary once it was found right, and not before: what it then
// had received a snapshot of the primary might never come to have, where clients wait for its acknowledgement alone.
func (r *Runner) verify(ctx context.Context, c *Cluster, m Member, order Order, progress func(CloneProgress)) error {
	local, server := r.cfg.World.Local(m), r.cfg.World.Server(m)
	if progress == nil {
		progress = func(CloneProgress) {}
	}
	primary, ok := c.Known(c.Record.Primary)
	if !ok {
		return fmt.Errorf("the primary, %s, is not known", c.Record.Primary)
	}
	st, err := r.remembered(ctx, c, m, fenceWait)
	switch {
	case err != nil:
		return err
	case st.Copy == nil:
		return nil // an earlier runner did it
	case m.Host == primary.Host: // a person had it promoted as it was: what it has is what others are compared with
		r.remember("%s is the primary, and was a copy of %s that nobody had compared: others are compared with it from now on", m.Host, st.Copy.From)
		return r.bounded(ctx, fenceBound, func(ctx context.Context) error { return local.Compared(ctx, order, "") })
	case st.Copy.Differs != "":
		return fmt.Errorf("%s is known to differ: %w", m.Host, ErrDiffers)
	}
	of, err := r.observe(ctx, primary)
	if err != nil {
		return err
	}
	f, err := r.endow(ctx, c, m, st.Copy.From, of) // whoever made the copy may have been gone before
	if err != nil {
		return err
	}
	if lost, err := Forgotten(f, of); err != nil {
		return err
	} else if !lost.Empty() { // whoever made the copy has not seen it any more
		r.log.Warn("a copy has not got what its host wrote itself as a primary: it is made again", "host", m.Host, "lacks", lost.String())
		return r.copied(ctx, c, m, primary, order, progress)
	}
	ctx, end := r.during(ctx, order)
	defer end()
	began := time.Now()
	progress(CloneProgress{Step: "compare"})
	seed := rand.Uint64()
	with, sums, err := r.compare(ctx, c, m, primary, order, st.Copy.From, seed)
	var found differing
	if errors.As(err, &found) { // a person is asked only for what is so twice
		r.log.Warn("a copy seems to differ from the server that it was compared with: it is compared again", "host", m.Host, "with", with, "position", sums.Position, "differs", found.text)
		with, sums, err = r.compare(ctx, c, m, primary, order, st.Copy.From, seed)
	}
	switch {
	case errors.As(err, &found):
		r.log.Error("a copy differs from the server that it was compared with: it is not counted", "host", m.Host, "with", with, "position", sums.Position, "differs", found.text)
		r.remember("%s is a copy of %s, and differs from %s at %s: %s", m.Host, st.Copy.From, with, sums.Position, shorten(found.text))
		err = fmt.Errorf("%s, a copy of %s, compared with %s at %s: %w: %s", m.Host, st.Copy.From, with, sums.Position, ErrDiffers, found.text)
		return errors.Join(err, r.bounded(ctx, fenceBound, func(ctx context.Context) error { return local.Compared(ctx, order, found.text) }))
	case err != nil:
		err = fmt.Errorf("compare %s, a copy of %s: %w", m.Host, st.Copy.From, err)
	default:
		if err = r.bounded(ctx, fenceBound, func(ctx context.Context) error { return local.Compared(ctx, order, "") }); err == nil {
			r.log.Info("a copy was compared, and is right", "host", m.Host, "from", st.Copy.From, "with", with, "position", sums.Position, "tables", len(sums.Tables), "outside", len(sums.Outside),
				"not_compared", some(sums.Outside), "took", time.Since(began).Round(time.Millisecond).String())
			r.remember("%s is a copy of %s, and was found right: %d tables at %s", m.Host, st.Copy.From, len(sums.Tables), sums.Position)
		}
	}
	if err != nil {
		return err
	}
	return r.attach(ctx, c, m, server, false)
}

// remembered is what the host of a server remembers of it.
func (r *Runner) remembered(ctx context.Context, c *Cluster, m Member, limit time.Duration) (st LocalState, err error) {
	if err := r.bounded(ctx, limit, func(ctx context.Context) (err error) { st, err = r.cfg.World.Local(m).State(ctx, c.Tag); return err }); err != nil {
		return st, fmt.Errorf("ask the agent of %s: %w", m.Host, err)
	}
	return st, nil
}

// differing is what differs.
type differing struct{ text string }

func (d differing) Error() string { return d.text }

// compare has the copy stand, takes checksums of a sample of tables in one snapshot of a server that counts, has the copy go on to the position of that snapshot, and takes the same
// there. Nobody is locked. The threads of the copy stand afterwards.
func (r *Runner) compare(ctx context.Context, c *Cluster, m, primary Member, order Order, from string, seed uint64) (with string, sums Sums, err error) {
	server := r.cfg.World.Server(m)
	if err := r.bounded(ctx, openBound, server.Leave); err != nil {
		return "", sums, fmt.Errorf("have it stand: %w", err)
	}
	for what, f := range inOrder(
		"have it refuse writes", func(ctx context.Context) error { return server.SetReadOnly(ctx, true) },
		"have it not wait for acknowledgements", func(ctx context.Context) error { return server.SetSource(ctx, false) },
		"have it not acknowledge", func(ctx context.Context) error { return server.SetAcker(ctx, false) },
	) {
		if err := r.bounded(ctx, openBound, f); err != nil {
			return "", sums, fmt.Errorf("%s: %w", what, err)
		}
	}
	f, err := r.observe(ctx, m)
	if err != nil {
		return "", sums, err
	}
	other := r.reference(ctx, c, m, primary, from)
	source := r.cfg.World.Server(other)
	if other.Host != primary.Host {
		// What the copy has it must have, too: its snapshot is not before that.
		if err := r.bounded(ctx, applyBound, func(ctx context.Context) error { return source.WaitApplied(ctx, f.Current) }); err != nil {
			return other.Host, sums, fmt.Errorf("wait until %s is as far: %w", other.Host, err)
		}
	}
	if err := r.bounded(ctx, longBound, func(ctx context.Context) (err error) {
		sums, err = source.Checksum(ctx, nil, seed)
		return err
	}); err != nil {
		return other.Host, sums, fmt.Errorf("checksums at %s: %w", other.Host, err)
	}
	// A failover that it missed, or whose orders came late, may have cut it from who is the primary by now.
	_ = r.bounded(ctx, cutBound, func(ctx context.Context) error {
		return r.cfg.World.Local(m).Uncut(ctx, order, primary.Source())
	})
	r.heard(ctx, c, m, primary, order)
	if err := r.bounded(ctx, applyBound, func(ctx context.Context) error {
		return server.FollowUntil(ctx, primary.Source(), sums.Position, false)
	}); err != nil {
		return other.Host, sums, fmt.Errorf("have it go on to %s: %w", sums.Position, err)
	}
	var its Sums
	if err := r.bounded(ctx, longBound, func(ctx context.Context) (err error) {
		its, err = server.Checksum(ctx, slices.Sorted(maps.Keys(sums.Tables)), 0)
		return err
	}); err != nil {
		return other.Host, sums, fmt.Errorf("checksums at the copy: %w", err)
	}
	if same, err := samePosition(f.Flavour, sums.Position, its.Position); err != nil {
		return other.Host, sums, err
	} else if !same {
		return other.Host, sums, fmt.Errorf("it stands at %s, and was to stand at %s", its.Position, sums.Position)
	}
	if text := difference(other.Host, m.Host, sums, its); text != "" {
		return other.Host, sums, differing{text}
	}
	return other.Host, sums, nil
}

func samePosition(flavour, a, b string) (bool, error) {
	x, err := ParseGTIDs(flavour, a)
	y, err2 := ParseGTIDs(flavour, b)
	return x.Reaches(y) && y.Reaches(x), errors.Join(err, err2)
}

// differencesShown are tables of which a difference tells the sums.
const differencesShown = 3

// difference tells which tables of a server are others at the copy, with both sums and positions; "" = none. A table without a row that the copy has not may have been made since the snapshot.
func difference(host, copied string, at, its Sums) string {
	var list []string
	for _, t := range slices.Sorted(maps.Keys(at.Tables)) {
		want, have := at.Tables[t], its.Tables[t]
		switch {
		case want == have || have == "" && emptySum(want):
			continue
		case have == "":
			have = "it is not there, or cannot be compared"
		}
		if len(list) < differencesShown {
			list = append(list, fmt.Sprintf("%s is %s at %s (%s), and %s at %s (%s)", t, want, host, at.Position, have, copied, its.Position))
		} else {
			list = append(list, t)
		}
	}
	if n := len(list); n > 10 {
		list = append(list[:10], fmt.Sprintf("and %d more", n-10))
	}
	return strings.Join(list, "; ")
}

// emptySum reports whether a sum is of a table without rows.
func emptySum(sum string) bool { return strings.HasPrefix(sum, "0:") }

// some are the first of a list, for a line of the log.
func some(list []string) string {
	if n := len(list); n > 10 {
		return strings.Join(list[:10], ", ") + fmt.Sprintf(" and %d more", n-10)
	}
	return strings.Join(list, ", ")
}

// reference is with whom a copy is compared: the one whose copy it is, another replica that counts as right, or the primary.
func (r *Runner) reference(ctx context.Context, c *Cluster, m, primary Member, from string) Member {
	list := slices.Clone(c.Members)
	slices.SortStableFunc(list, func(a, b Member) int { return boolFirst(a.Host == from, b.Host == from) })
	for _, x := range list {
		if x.Host != m.Host && x.Host != primary.Host && r.right(ctx, c, x, primary) {
			return x
		}
	}
	return primary
}

// right reports whether a server is a replica that follows well, and no copy that nobody has compared.
func (r *Runner) right(ctx context.Context, c *Cluster, x, primary Member) bool {
	if x.Unfit != "" || c.Record.Fenced[x.Host] != "" {
		return false
	}
	f, err := r.observe(ctx, x)
	if err != nil || !healthy(f) || !c.follows(f, primary.Host) {
		return false
	}
	st, err := r.remembered(ctx, c, x, cutBound)
	return err == nil && st.Copy == nil
}

// sound tells why a server must not be counted: it is a copy that nobody has compared. What its host remembers decides: what was reported of it may be older. One that counts already
// was found right, and is asked all the same; that its agent is silent changes nothing.
func (r *Runner) sound(ctx context.Context, c *Cluster, m Member) error {
	st, err := r.remembered(ctx, c, m, cutBound)
	counted := slices.Contains(c.Record.Ackers, m.Host) || m.Host == c.Record.Primary
	switch {
	case err == nil && st.Copy != nil && st.Copy.Differs != "":
		return fmt.Errorf("%s is not counted: it is a copy of %s, and differs", m.Host, st.Copy.From)
	case err == nil && st.Copy != nil:
		return fmt.Errorf("%s is not counted: it is a copy of %s, and was not compared yet", m.Host, st.Copy.From)
	case err == nil || counted || errors.Is(err, ErrNotHere):
		return nil
	}
	return fmt.Errorf("%s is not counted before its agent says that it is no copy which nobody has compared: %w", m.Host, err)
}

// lend takes a host as the donor of a copy until done is called: one copy of it at a time. ErrBusy.
func (r *Runner) lend(from, to string) (done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other, lent := r.lends[from]; lent {
		return nil, fmt.Errorf("%s: %w: a copy for %s is made of it", from, ErrBusy, other)
	}
	r.lends[from] = to
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.lends, from)
	}, nil
}

// lending are the hosts of which copies are made, and for whom.
func (r *Runner) lending() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.lends)
}

// remember keeps what came of something that takes long for the record's history: who does that writes no record.
func (r *Runner) remember(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, Event{At: r.clock.Now(), What: fmt.Sprintf(format, args...)})
	if n := len(r.events); n > HistoryLength {
		r.events = r.events[n-HistoryLength:]
	}
}

// history writes what was remembered into the record.
func (r *Runner) history(ctx context.Context) error {
	r.mu.Lock()
	list := slices.Clone(r.events)
	r.mu.Unlock()
	if len(list) == 0 || !r.loaded {
		return nil
	}
	if err := r.store(ctx, func(rec *Record) {
		for _, e := range list {
			e.Epoch = rec.Epoch
			rec.Note(e)
		}
	}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = slices.DeleteFunc(r.events, func(e Event) bool { return slices.Contains(list, e) })
	return nil
}

// copied makes a server a copy of the best that can be copied, and waits while a copy for another host is made of that.
func (r *Runner) copied(ctx context.Context, c *Cluster, m, primary Member, order Order, progress func(CloneProgress)) error {
	for said := ""; ; {
		from, err := r.copyOf(ctx, c, m, primary)
		if err == nil {
			err = r.clone(ctx, c, m, from, order, progress)
		}
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if why := err.Error(); why != said {
			said = why
			r.log.Info("a copy for a database server is waited for", "host", m.Host, "reason", why)
		}
		if err := r.ok(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(stopPause):
		case <-ctx.Done():
		}
	}
}

// copyOf chooses what a server becomes a copy of: a replica that follows the primary well and is right, else that. While a copy for another host is made of each of those
// replicas it is ErrBusy: a copy of the primary holds its writers up.
func (r *Runner) copyOf(ctx context.Context, c *Cluster, m, primary Member) (string, error) {
	lent := r.lending()
	for _, x := range c.Members {
		if x.Host == m.Host || x.Host == primary.Host || !r.right(ctx, c, x, primary) {
			continue
		}
		if lent[x.Host] == "" {
			return x.Host, nil
		}
		lent[primary.Host] = x.Host
	}
	if lent[primary.Host] != "" {
		return "", fmt.Errorf("what %s could become a copy of: %w", m.Host, ErrBusy)
	}
	return primary.Host, nil
}

// takeBackBound is for how long an old primary tries to take back what it had dropped, which is what was under way when it was deposed: a moment's writes.
const takeBackBound = 30 * time.Second

// takesBack are the first versions of MariaDB in which a replica that acknowledges takes what it wrote itself, when its log has not got it.
const takesBackMajor, takesBackMinor = 10, 6

// takeBack has an old primary take from the new one what it wrote itself and has dropped, though others had it: killed with writes that waited for acknowledgement it could not know who had
// them. A server goes past what has its own number, but for one that acknowledges (rpl_semi_sync_slave_enabled, with gtid_strict_mode), which takes what its log has not got. It follows until there and no
// further: all of that is from before the new primary took a write, so that nobody waits for what it acknowledges on the way. why tells why that cannot be; "" = it has all, by its own log.
func (r *Runner) takeBack(ctx context.Context, m, primary Member, f, of Facts, lost GTIDs) (why string, err error) {
	dropped := "it has dropped what others have kept, up to " + lost.String() + ", because it wrote it itself and nobody had told it that it was acknowledged"
	major, minor, _ := VersionOf(f.Version)
	switch {
	case f.Flavour != MariaDB || major < takesBackMajor || major == takesBackMajor && minor < takesBackMinor:
		return dropped + ", and in version " + f.Version + " would skip that", nil
	case !isOn(f.Settings["gtid_strict_mode"]):
		return dropped + ", and would skip that without gtid_strict_mode", nil
	}
	server := r.cfg.World.Server(m)
	for what, f := range inOrder(
		"have it refuse writes", func(ctx context.Context) error { return server.SetReadOnly(ctx, true) },
		"have it not wait for acknowledgements", func(ctx context.Context) error { return server.SetSource(ctx, false) },
		"have it take what it wrote itself", func(ctx context.Context) error { return server.SetAcker(ctx, true) },
	) {
		if err := r.bounded(ctx, openBound, f); err != nil {
			return "", fmt.Errorf("%s: %s: %w", m.Host, what, err)
		}
	}
	err = r.bounded(ctx, takeBackBound, func(ctx context.Context) error {
		return server.FollowUntil(ctx, primary.Source(), lost.String(), true)
	})
	if err != nil { // as one that does not acknowledge it would go past what it wrote itself, once it gets through, and look as if it had all
		if stop := r.bounded(ctx, stopBound, server.StopIO); stop != nil {
			return "", errors.Join(err, stop)
		}
	}
	if off := r.bounded(ctx, openBound, func(ctx context.Context) error { return server.SetAcker(ctx, false) }); off != nil {
		return "", errors.Join(err, off)
	}
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("have %s take what it wrote itself, up to %s: %w", m.Host, lost, context.Cause(ctx))
	case errors.Is(err, ErrMissingLog) || errors.Is(err, ErrUnfit), errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnreachable):
		// Where it cannot be had soon a copy is the surer way: writers may wait for this one.
		return dropped + ", and cannot get that: " + err.Error(), nil
	case err != nil:
		return "", fmt.Errorf("have %s take what it wrote itself, up to %s: %w", m.Host, lost, err)
	}
	if f, err = r.observe(ctx, m); err != nil {
		return "", err
	}
	still, err := Forgotten(f, of)
	if err != nil {
		return "", err
	}
	if !still.Empty() {
		return dropped + ", and has skipped that", nil
	}
	r.log.Info("an old primary has taken back what it wrote itself and had dropped", "host", m.Host, "from", primary.Host, "until", lost.String())
	return "", nil
}
