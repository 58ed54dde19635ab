package vip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Clock tells the time in two ways, as lease.Clock does.
type Clock interface {
	// Now is the wall clock, for people only.
	Now() time.Time
	// Boot is a clock that nobody sets, and that goes on while the machine sleeps.
	Boot() time.Duration
}

type bootClock struct{}

func (bootClock) Now() time.Time { return time.Now() }

func (bootClock) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// Config is what a Table needs.
type Config struct {
	// Dir is where the claim file lies; it must exist.
	Dir       string
	Kernel    Kernel
	Announcer Announcer
	Clock     Clock        // nil = CLOCK_BOOTTIME
	Logger    *slog.Logger // nil = slog.Default()
}

// Table has all the claims of a process. Its methods are safe for concurrent use.
type Table struct {
	kernel  Kernel
	wire    Announcer
	clock   Clock
	log     *slog.Logger
	times   times
	file    *claimFile
	links   atomic.Pointer[[]Link]
	counts  counts
	closing chan struct{}
	claimed chan struct{} // one slot, filled with each claim

	reading sync.Mutex  // who reads the file, and removes what stands in it
	ready   atomic.Bool // that was done

	mu     sync.Mutex // guards the fields below
	claims map[netip.Addr]*Handle
	left   map[netip.Addr]time.Duration // what was left here, by this process or the one before, until when by the Boot clock
	closed bool
	wg     sync.WaitGroup
}

// Open reads the claim file, and removes the addresses that a former process claimed. It does not fail where addresses cannot be held: Check tells.
// Nor does it where the file cannot be read: see Unread.
func Open(cfg Config) (*Table, error) {
	if cfg.Kernel == nil || cfg.Announcer == nil || cfg.Dir == "" {
		return nil, fmt.Errorf("%w: a table of addresses needs a directory, a kernel and an announcer", ErrInvalid)
	}
	t := &Table{
		kernel: cfg.Kernel, wire: cfg.Announcer, clock: cfg.Clock, log: cfg.Logger, times: defaultTimes(),
		closing: make(chan struct{}), claimed: make(chan struct{}, 1), claims: map[netip.Addr]*Handle{}, left: map[netip.Addr]time.Duration{},
	}
	if t.clock == nil {
		t.clock = bootClock{}
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	t.links.Store(&[]Link{})
	t.file = &claimFile{dir: cfg.Dir}
	if err := t.Unread(); err != nil {
		t.log.Error("no virtual address is held here until a person has dealt with the file of claims", "err", err)
	}
	return t, nil
}

// Unread is why the claim file cannot be read: ErrUnread; nil = it was. Until it is, or is removed, nothing is claimed: what it names may still be here,
// and only a person can see that. It is read anew each time, so that nobody has to start the agent again. Clean works meanwhile.
func (t *Table) Unread() error {
	if t.ready.Load() {
		return nil
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	if t.ready.Load() {
		return nil
	}
	if err := t.file.read(); err != nil {
		return err
	}
	left := t.file.addresses()
	for addr, until := range t.file.inherited() {
		// It is nobody's now, and goes by itself, unless somebody claims it before. One of before the machine was started anew is not there.
		if rest := until - t.clock.Boot(); rest > 0 && rest <= t.times.left {
			t.bequeathed(addr, until)
			left = slices.DeleteFunc(left, func(a netip.Addr) bool { return a == addr })
		}
	}
	if len(left) > 0 {
		if _, err := t.clean(left, true); err != nil {
			t.log.Error("virtual addresses of a former process are not removed", "err", err)
		} else if err := t.file.forget(left...); err != nil {
			t.log.Warn("the file of claims cannot be written", "err", err)
		}
	}
	t.ready.Store(true)
	return nil
}

// Check tells why this box can hold no virtual address: ErrNotAllowed, ErrUnsuited, and ErrUnread when it is nothing else. It asks each time.
func (t *Table) Check() error {
	if err := errors.Join(t.kernel.Check(), t.wire.Check()); err != nil {
		return err
	}
	return t.Unread()
}

// Run sees what others change of interfaces and addresses, until ctx ends or Close is called. Without it that is seen late. As long as nothing is
// claimed it does nothing.
func (t *Table) Run(ctx context.Context) error {
	const pause = time.Second // after an error
	for {
		for t.idle() {
			select {
			case <-t.claimed:
			case <-ctx.Done():
				return nil
			case <-t.closing:
				return nil
			}
		}
		changed, stop, err := t.kernel.Watch()
		if err != nil {
			t.log.Warn("changes of addresses cannot be watched", "err", err)
			changed, stop = nil, func() {}
		}
		for err == nil && !t.idle() {
			if lerr := t.look(); lerr != nil { // the first time for what came before the watch
				t.log.Warn("interfaces and addresses cannot be listed", "err", lerr)
			}
			var broken bool
			select {
			case _, ok := <-changed:
				broken = !ok
			case <-time.After(10 * time.Second): // whatever was missed
			case <-ctx.Done():
				stop()
				return nil
			case <-t.closing:
				stop()
				return nil
			}
			if broken {
				break
			}
		}
		stop()
		if t.idle() {
			continue
		}
		select {
		case <-time.After(pause):
			_ = t.look() // the next round says why it fails, if it does
		case <-ctx.Done():
			return nil
		case <-t.closing:
			return nil
		}
	}
}

// idle reports whether nothing is claimed.
func (t *Table) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.claims) == 0
}

// look takes in what the kernel has, and pokes the claims that are concerned.
func (t *Table) look() error {
	began := t.clock.Boot()
	links, err := t.kernel.Links()
	if err != nil {
		return err
	}
	old := *t.links.Swap(&links)
	t.mu.Lock()
	all := t.listLocked()
	t.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	has, err := t.kernel.Addresses()
	if err != nil {
		return err
	}
	for _, h := range all {
		was, _ := linkNamed(old, h.link)
		is, _ := linkNamed(links, h.link)
		here := slices.ContainsFunc(has, func(a Address) bool { return a.Link == is.Index && a.Prefix == h.prefix })
		if !here {
			h.absent(began)
		}
		if !here || !sameLink(was, is) {
			h.poke()
		}
	}
	return nil
}

func (t *Table) listLocked() []*Handle {
	var all []*Handle
	for _, h := range t.claims {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *Handle) int { return a.claim.Addr.Compare(b.claim.Addr) })
	return all
}

// InterfaceFor names the interface in an address's subnet: of the longest prefix. bits, if not 0, are those of the subnet. ErrNoInterface.
func (t *Table) InterfaceFor(addr netip.Addr, bits int) (string, error) {
	links, has, err := t.list()
	if err != nil {
		return "", err
	}
	l, err := interfaceFor(links, has, addr.Unmap(), bits)
	return l.Name, err
}

func (t *Table) list() ([]Link, []Address, error) {
	links, err := t.kernel.Links()
	if err != nil {
		return nil, nil, err
	}
	has, err := t.kernel.Addresses()
	return links, has, err
}

// Claim claims an address, and returns at once but while an earlier claim of the same owner to it comes to its end, at most until ctx does. Errors are
// of the claim itself; whether the address is here the Handle tells. The caller releases it.
func (t *Table) Claim(ctx context.Context, c Claim) (*Handle, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := t.Unread(); err != nil {
		return nil, err
	}
	for {
		h, former, err := t.claim(c)
		if former == nil {
			return h, err
		}
		former.tell(toEnd)
		select {
		case <-former.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: an earlier claim to %s is not over yet: %w", ErrClaimed, c.Addr, ctx.Err())
		}
	}
}

func (t *Table) claim(c Claim) (h, former *Handle, err error) {
	links, has, err := t.list()
	if err != nil {
		return nil, nil, err
	}
	var l Link
	if c.Interface == "" {
		if l, err = interfaceFor(links, has, c.Addr, 0); err != nil {
			return nil, nil, err
		}
	} else if l, _ = linkNamed(links, c.Interface); l.Index == 0 {
		return nil, nil, fmt.Errorf("%w: there is no interface %q; this box has %s", ErrNoInterface, c.Interface, names(links))
	}
	prefix := netip.PrefixFrom(c.Addr, c.Bits)
	inherits := t.isLeft(c.Addr) && slices.ContainsFunc(has, func(a Address) bool { return a.Link == l.Index && a.Prefix == prefix })
	if !inherits && slices.ContainsFunc(has, func(a Address) bool { return a.Prefix.Addr() == c.Addr }) {
		t.forgetLeft(c.Addr)
		if _, err := t.clean([]netip.Addr{c.Addr}, false); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, ErrClosed
	}
	if other := t.claims[c.Addr]; other != nil {
		if other.ending() && other.claim.Owner == c.Owner {
			return nil, other, nil
		}
		return nil, nil, fmt.Errorf("%w: %s is claimed by %s; two owners cannot have one address: give one of them another", ErrClaimed, c.Addr, other.claim.Owner)
	}
	t.links.Store(&links)
	h = newHandle(t, c, l)
	if _, still := t.left[c.Addr]; inherits && still {
		h.mem.present, h.mem.recorded, h.mem.touched = true, true, t.clock.Boot()
		t.counts.inherited.Add(1)
		t.log.Info("virtual address goes on that was left here", "addr", c.Addr.String(), "interface", l.Name, "owner", c.Owner)
	}
	delete(t.left, c.Addr)
	t.claims[c.Addr] = h
	t.wg.Go(h.run)
	select {
	case t.claimed <- struct{}{}:
	default:
	}
	return h, nil, nil
}

// bequeathed notes that an address is here that is nobody's.
func (t *Table) bequeathed(addr netip.Addr, until time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left[addr] = until
}

// isLeft reports whether an address is here that was left.
func (t *Table) isLeft(addr netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left[addr] > t.clock.Boot()
}

func (t *Table) forgetLeft(addr netip.Addr) (was bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, was = t.left[addr]
	delete(t.left, addr)
	return was
}

// Disown removes an address that was left here, now or by the process before (Leave), when nobody here is to have it. It is nil when there is none.
func (t *Table) Disown(addr netip.Addr) error {
	if !t.forgetLeft(addr) {
		return nil
	}
	_, err := t.clean([]netip.Addr{addr}, true)
	return err
}

func names(links []Link) string {
	var list []string
	for _, l := range links {
		list = append(list, l.Name)
	}
	return fmt.Sprintf("%q", list)
}

// finished is called by a claim when it is over.
func (t *Table) finished(h *Handle) {
	t.mu.Lock()
	if t.claims[h.claim.Addr] == h {
		delete(t.claims, h.claim.Addr)
	}
	t.mu.Unlock()
}

// renewed pokes the other claims under a lease whose slot was emptied.
func (t *Table) renewed(l Lease, by *Handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.claims {
		if h != by && h.lease() == l {
			h.poke()
		}
	}
}

// ours reports whether a hardware address is of this box.
func (t *Table) ours(mac net.HardwareAddr) bool {
	return slices.ContainsFunc(*t.links.Load(), func(l Link) bool { return len(l.MAC) > 0 && slices.Equal(l.MAC, mac) })
}

// Claims are all claims, by address.
func (t *Table) Claims() []State {
	t.mu.Lock()
	all := t.listLocked()
	t.mu.Unlock()
	list := make([]State, 0, len(all))
	for _, h := range all {
		list = append(list, h.State())
	}
	slices.SortFunc(list, func(a, b State) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Owner, b.Owner)) })
	return list
}

// Clean removes addresses that are virtual ones, as the caller knows, and are on this box without being claimed. It returns those that it
// removed. One that lives longer than ours do, and without which its interface would have none of its family, is left, with an error: the caller may be wrong.
func (t *Table) Clean(virtual []netip.Addr) ([]netip.Addr, error) { return t.clean(virtual, false) }

// clean removes addresses. once: they were claimed here by a former process, which says nothing of what they are now.
func (t *Table) clean(virtual []netip.Addr, once bool) (removed []netip.Addr, err error) {
	if len(virtual) == 0 {
		return nil, nil
	}
	links, has, err := t.list()
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, a := range has {
		addr := a.Prefix.Addr()
		if !slices.Contains(virtual, addr) || t.isLeft(addr) {
			continue
		}
		name := fmt.Sprintf("number %d", a.Link)
		if i := slices.IndexFunc(links, func(l Link) bool { return l.Index == a.Link }); i >= 0 {
			name = links[i].Name
		}
		if ours := a.Lifetime > 0 && a.Lifetime <= t.times.life; !ours && (alone(has, i) || leads(has, i)) {
			if once {
				t.log.Warn("an address that was a virtual one is the box's own now; it is left", "addr", addr.String(), "interface", name)
				continue
			}
			errs = append(errs, fmt.Errorf("%s is a virtual address, and interface %s would be left without an address: it is left there; either give the interface another address before it, or take it from the virtual ones", addr, name))
			continue
		}
		t.mu.Lock()
		claimed := t.claims[addr] != nil // it may have been claimed meanwhile
		if !claimed {
			err = t.kernel.Delete(a)
		}
		t.mu.Unlock()
		if claimed {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s from %s: %w", addr, name, err))
			continue
		}
		t.counts.cleaned.Add(1)
		t.log.Warn("virtual address removed that is not held here", "addr", addr.String(), "interface", name)
		removed = append(removed, addr)
	}
	return removed, errors.Join(errs...)
}

// alone reports whether an interface has no other address of the family of has[i].
func alone(has []Address, i int) bool {
	for k, a := range has {
		if k != i && a.Link == has[i].Link && a.Prefix.Addr().Is4() == has[i].Prefix.Addr().Is4() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}

// leads reports whether others of an interface go with has[i]: Linux removes the secondary addresses of a subnet with the first one, which it
// lists before them, unless net.ipv4.conf.*.promote_secondaries is set.
func leads(has []Address, i int) bool {
	p := has[i].Prefix
	if !p.Addr().Is4() || p.IsSingleIP() {
		return false
	}
	same := func(a Address) bool { return a.Link == has[i].Link && a.Prefix.Masked() == p.Masked() }
	return !slices.ContainsFunc(has[:i], same) && slices.ContainsFunc(has[i+1:], same)
}

// Close releases all claims, and waits until their addresses are gone, for 3 s at most. It is idempotent.
func (t *Table) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.closing)
	}
	for _, h := range t.claims {
		h.tell(toEnd)
	}
	t.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		t.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-time.After(3 * time.Second):
		return errors.New("virtual addresses are not released in time: the kernel removes them at their lifetimes' end")
	}
}
