//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"libvirt.org/go/libvirt"

	"hostmesh/vmd"
)

// Hypervisor is libvirt's hypervisor on this box. Open makes one. While libvirt is away its calls return vmd.ErrAway, and
// it is looked for in the background.
//
// libvirt's calls know no context. Each runs in a goroutine of its own, of which a connection has at most Limits.Calls; a call
// whose context ends is left alone there, and what it was about to do may still happen. A daemon that hangs is found out
// by questions, and then calls return at once; libvirt keeps those that are in it until the daemon ends or goes on.
type Hypervisor struct {
	cfg     Config
	mesh    atomic.Pointer[string]
	changed chan struct{}
	stop    context.CancelFunc
	done    chan struct{} // closed when the connector has ended

	mu        sync.Mutex // guards the fields below
	conn      *conn      // nil while it is away
	away      error      // why
	closed    bool
	calls     int                      // in libvirt
	abandoned int                      // of them, those that nobody waits for
	busy      map[string]chan struct{} // volumes that are being made, grown or deleted; closed when that is done
}

// conn is a connection with those who use it: it is closed when the last of them is done with it.
type conn struct {
	lv       *libvirt.Connect
	platform platform
	driver   string // QEMU, Test, ...
	version  string
	events   int           // callback's id, -1 = none
	slots    chan struct{} // one for each call in it
	lost     chan struct{} // closed when it is dead

	users   int // guarded by Hypervisor.mu
	retired bool
}

// Open returns a hypervisor. It is an error when this build or this box has no libvirt at all; a daemon that is away is
// none, and is looked for in the background. Open waits a moment for the first connection.
func Open(cfg Config) (*Hypervisor, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open libvirt: %w", err)
	}
	if _, err := LibraryVersion(); err != nil {
		return nil, fmt.Errorf("open libvirt %q: %w", cfg.URI, err)
	}
	if err := startEvents(); err != nil {
		return nil, fmt.Errorf("open libvirt %q: %w", cfg.URI, err)
	}
	if !cfg.ReadOnly {
		if err := makeDir(cfg.Dir); err != nil {
			return nil, fmt.Errorf("open libvirt %q: %w", cfg.URI, err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &Hypervisor{cfg: cfg, changed: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
		away: errors.New("not connected yet"), busy: map[string]chan struct{}{}}
	h.SetMesh(cfg.Mesh)
	first := make(chan struct{})
	go h.connector(ctx, sync.OnceFunc(func() { close(first) }))
	patience := time.NewTimer(5 * time.Second) // a daemon that hangs is one that is away
	defer patience.Stop()
	select {
	case <-first:
	case <-patience.C:
	}
	return h, nil
}

// SetMesh tells the id of the mesh where Open could not.
func (h *Hypervisor) SetMesh(id string) { h.mesh.Store(&id) }

// connector connects, waits until the connection is lost, and begins again, with growing pauses. There is one attempt at a
// time: one that hangs in a daemon that hangs ends with it.
func (h *Hypervisor) connector(ctx context.Context, tried func()) {
	defer close(h.done)
	pause := h.cfg.Limits.RetryMin
	said := ""
	for ctx.Err() == nil {
		var c *conn
		err := h.mayConnect()
		if err == nil {
			c, err = attempt(ctx, h.connect)
		}
		if ctx.Err() != nil {
			if c != nil {
				c.close()
			}
			return
		}
		if err != nil {
			h.mu.Lock()
			h.away = err
			h.mu.Unlock()
			if said != err.Error() { // once for each reason
				h.cfg.Logger.Warn("libvirt is away", "uri", h.cfg.URI, "err", err)
				said = err.Error()
			}
			tried()
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, h.cfg.Limits.RetryMax)
			continue
		}
		said, pause = "", h.cfg.Limits.RetryMin
		h.mu.Lock()
		h.conn, h.away = c, nil
		h.mu.Unlock()
		h.cfg.Logger.Info("libvirt connected", "uri", h.cfg.URI, "hypervisor", c.version, "domain_type", c.platform.domainType)
		tried()
		h.poke()
		if alive, err := c.lv.IsAlive(); err == nil && !alive { // it may have gone before anybody could hear of it
			h.lose(c, errors.New("the connection broke at once"))
		}
		h.watch(ctx, c)
	}
}

// watch asks a daemon from time to time whether it lives, until it is lost. libvirt has a keepalive of its own, with which its library
// (9.0.0) hangs or crashes when several calls wait in a connection that it gives up.
func (h *Hypervisor) watch(ctx context.Context, c *conn) {
	tick := time.NewTicker(h.cfg.Limits.Ping)
	defer tick.Stop()
	asked := make(chan error, 1)
	var since time.Time // of the question that is open; zero = none is
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.lost:
			return
		case <-asked:
			since = time.Time{} // a daemon that refuses lives; that the connection broke is seen by translate
		case <-tick.C:
			if !since.IsZero() {
				if time.Since(since) > h.cfg.Limits.Silence {
					h.lose(c, fmt.Errorf("the daemon has not answered for %s", h.cfg.Limits.Silence))
				}
				continue
			}
			since = time.Now()
			h.mu.Lock()
			c.users++
			h.mu.Unlock()
			go func() {
				_, err := patient(c.lv.GetLibVersion)
				err = h.translate(c, err)
				h.release(c)
				asked <- err
			}()
		}
	}
}

// mayConnect refuses one more connection when too many calls hang in lost ones: they end when their daemon goes on or ends.
func (h *Hypervisor) mayConnect() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if most := h.cfg.Limits.Abandoned; h.abandoned > most-h.cfg.Limits.Calls {
		return fmt.Errorf("%d calls hang in libvirt, of the %d that may: end the libvirtd that hangs, or restart this agent", h.abandoned, most)
	}
	return nil
}

// attempt runs a call that cannot be ended; when ctx ends first, what it returns is closed.
func attempt(ctx context.Context, connect func() (*conn, error)) (*conn, error) {
	type result struct {
		c   *conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := connect()
		got <- result{c, err}
	}()
	select {
	case r := <-got:
		return r.c, r.err
	case <-ctx.Done():
		go func() {
			if r := <-got; r.c != nil {
				r.c.close()
			}
		}()
		return nil, ctx.Err()
	}
}

// lose is called when a connection turns out to be dead, by whoever finds it first.
func (h *Hypervisor) lose(c *conn, why error) {
	h.mu.Lock()
	if h.conn != c {
		h.mu.Unlock()
		return
	}
	h.conn, h.away = nil, why
	close(c.lost)
	unused := h.retire(c)
	closed := h.closed
	h.mu.Unlock()
	if unused {
		go c.close() // not here: this may be libvirt's own thread
	}
	if !closed {
		h.cfg.Logger.Warn("libvirt is lost", "uri", h.cfg.URI, "err", why)
	}
	h.poke()
}

// retire marks a connection for closing, and reports whether nobody uses it. h.mu is held.
func (h *Hypervisor) retire(c *conn) bool {
	c.retired = true
	return c.users == 0
}

func (h *Hypervisor) acquire() (*conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, errors.New("the connection is closed")
	case h.conn == nil:
		return nil, fmt.Errorf("%w: %w", vmd.ErrAway, h.away)
	}
	h.conn.users++
	return h.conn, nil
}

func (h *Hypervisor) release(c *conn) {
	h.mu.Lock()
	c.users--
	last := c.retired && c.users == 0
	h.mu.Unlock()
	if last {
		c.close()
	}
}

func (c *conn) close() {
	// Errors tell that the connection is dead, which is why it is closed.
	if c.events >= 0 {
		_ = c.lv.DomainEventDeregister(c.events)
	}
	_ = c.lv.UnregisterCloseCallback()
	_, _ = c.lv.Close()
}

func (h *Hypervisor) poke() {
	select {
	case h.changed <- struct{}{}:
	default: // it is filled
	}
}

// Changed implements vmd.Hypervisor.
func (h *Hypervisor) Changed() <-chan struct{} { return h.changed }

// Load returns how many calls are in libvirt at this moment.
func (h *Hypervisor) Load() Hanging {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Hanging{Calls: h.calls, Abandoned: h.abandoned}
}

// Close lets go of libvirt; domains go on. It does not wait for calls that hang.
func (h *Hypervisor) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	h.stop()
	<-h.done
	h.mu.Lock()
	c := h.conn
	h.mu.Unlock()
	if c != nil {
		h.lose(c, errors.New("closed"))
	}
	return nil
}

// call runs f in a goroutine of its own and waits for it as long as ctx allows. f looks at ctx before it changes anything.
func call[T any](ctx context.Context, h *Hypervisor, what, about string, f func(context.Context, *conn) (T, error)) (T, error) {
	var none T
	wrap := func(err error) error {
		if about == "" {
			return fmt.Errorf("libvirt: %s: %w", what, err)
		}
		return fmt.Errorf("libvirt: %s %s: %w", what, about, err)
	}
	mine, cancel := context.WithTimeoutCause(ctx, h.cfg.Limits.Call, fmt.Errorf("%w: no answer within %s", vmd.ErrAway, h.cfg.Limits.Call))
	defer cancel()
	if ctx.Err() != nil {
		return none, wrap(ctx.Err())
	}
	c, err := h.acquire()
	if err != nil {
		return none, wrap(err)
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.lost:
		err = fmt.Errorf("%w: it went while %d calls were waited for", vmd.ErrAway, cap(c.slots))
	case <-mine.Done():
		err = fmt.Errorf("%d calls are in libvirt already: %w", cap(c.slots), context.Cause(mine))
	}
	if err != nil {
		h.release(c)
		return none, wrap(err)
	}
	h.mu.Lock()
	h.calls++
	h.mu.Unlock()
	type result struct {
		v   T
		err error
	}
	got := make(chan result, 1)
	var left bool // guarded by h.mu: nobody waits any more
	finished := false
	go func() {
		v, err := patient(func() (T, error) { return f(mine, c) })
		err = h.translate(c, err)
		<-c.slots
		h.release(c)
		h.mu.Lock()
		finished = true
		h.calls--
		if left {
			h.abandoned--
		}
		h.mu.Unlock()
		got <- result{v, err}
	}()
	var why error
	select {
	case r := <-got:
		if r.err != nil {
			return none, wrap(r.err)
		}
		return r.v, nil
	case <-c.lost:
		why = fmt.Errorf("%w: it went during the call", vmd.ErrAway)
	case <-mine.Done():
		why = context.Cause(mine)
	}
	h.mu.Lock()
	if !finished {
		left = true
		h.abandoned++
	}
	h.mu.Unlock()
	return none, wrap(why)
}

// here returns what acquire would, and takes nothing.
func (h *Hypervisor) here() error {
	c, err := h.acquire()
	if err == nil {
		h.release(c)
	}
	return err
}

// patient repeats a call that met the binding while it looked up a function of the library: two threads that ask for the
// same one at once may see it half done ("Failed to load"). Nothing was called then. A library that really lacks it says so again.
func patient[T any](f func() (T, error)) (T, error) {
	for i := 0; ; i++ {
		v, err := f()
		var lv libvirt.Error
		if i == 5 || !errors.As(err, &lv) || lv.Domain != libvirt.FROM_NONE || !strings.HasPrefix(lv.Message, "Failed to load ") {
			return v, plainly(err)
		}
		time.Sleep(time.Millisecond << i)
	}
}

// message is an error of libvirt that says only what people can use; its numbers are found by errors.As.
type message struct{ lv libvirt.Error }

func (m message) Error() string { return m.lv.Message }
func (m message) Unwrap() error { return m.lv }

func plainly(err error) error {
	if lv, is := err.(libvirt.Error); is { //nolint:errorlint // what wraps it has words of its own
		return message{lv}
	}
	return err
}

// translate says in vmd's words what libvirt's error means.
func (h *Hypervisor) translate(c *conn, err error) error {
	var lv libvirt.Error
	if err == nil || !errors.As(err, &lv) {
		return err
	}
	// IsAlive asks nobody: it tells whether the socket is open.
	if alive, e := c.lv.IsAlive(); e == nil && !alive {
		h.lose(c, message{lv})
		return fmt.Errorf("%w: %w", vmd.ErrAway, err)
	}
	if kind := meaning(lv.Code); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

// meaning of a code of libvirt; nil: it only failed.
func meaning(code libvirt.ErrorNumber) error {
	switch code {
	case libvirt.ERR_NO_DOMAIN:
		return vmd.ErrNoDomain
	case libvirt.ERR_XML_ERROR, libvirt.ERR_XML_DETAIL, libvirt.ERR_XML_INVALID_SCHEMA, libvirt.ERR_CONFIG_UNSUPPORTED, libvirt.ERR_DOM_EXIST,
		libvirt.ERR_INVALID_ARG, libvirt.ERR_OS_TYPE, libvirt.ERR_NO_OS, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_OPERATION_DENIED, libvirt.ERR_ACCESS_DENIED:
		return vmd.ErrRefused
	case libvirt.ERR_NO_SUPPORT, libvirt.ERR_OPERATION_UNSUPPORTED, libvirt.ERR_ARGUMENT_UNSUPPORTED:
		return vmd.ErrUnsupported
	}
	return nil
}
