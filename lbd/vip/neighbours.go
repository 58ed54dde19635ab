package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Neighbours is the Announcer for those on the same link: ARP (RFC 826, RFC 5227) and Neighbor Discovery (RFC 4861), over packet sockets, of which
// each interface has one for each family, open as long as anybody listens there.
type Neighbours struct {
	ns  *Namespace
	log *slog.Logger

	mu    sync.Mutex // guards the fields below
	ears  map[earKey]*ear
	close bool
}

type earKey struct {
	link int
	v6   bool
}

// ear is a packet socket.
type ear struct {
	key  earKey
	f    *os.File
	done chan struct{}

	mu     sync.Mutex // guards hears
	nextID int
	hears  map[netip.Addr]map[int]func(Sighting)
}

// OpenNeighbours works in a network namespace; nil = that of the process. log nil = slog.Default().
func OpenNeighbours(ns *Namespace, log *slog.Logger) *Neighbours {
	if log == nil {
		log = slog.Default()
	}
	return &Neighbours{ns: ns, log: log, ears: map[earKey]*ear{}}
}

// Close closes all sockets. It is idempotent.
func (n *Neighbours) Close() error {
	n.mu.Lock()
	n.close = true
	var all []*ear
	for k, e := range n.ears {
		all = append(all, e)
		delete(n.ears, k)
	}
	n.mu.Unlock()
	var errs []error
	for _, e := range all {
		errs = append(errs, e.f.Close())
		<-e.done
	}
	return errors.Join(errs...)
}

// Check implements Announcer.
func (n *Neighbours) Check() error {
	f, err := n.socket(earKey{})
	if err != nil {
		return err
	}
	return f.Close()
}

// onlyND lets Neighbor Solicitations and Advertisements through, which have no header before them (RFC 4861, 7.1).
var onlyND = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 20, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 58, SkipTrue: 4},
	bpf.LoadAbsolute{Off: 54, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}

// socket opens one, bound to an interface if there is one to be bound to.
func (n *Neighbours) socket(key earKey) (*os.File, error) {
	var fd int
	err := n.ns.in(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: it takes CAP_NET_RAW to announce addresses; run the agent as root, or give its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW", ErrNotAllowed)
	}
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	kind := uint16(etherARP)
	if key.v6 {
		kind = etherIPv6
		raw, aerr := bpf.Assemble(onlyND)
		filter := make([]unix.SockFilter, len(raw))
		for i, r := range raw {
			filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
		}
		err = errors.Join(aerr, unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}))
	}
	// Own frames are none; a kernel before 4.20 does not know this, and their hardware address tells.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if key.link != 0 && err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: kind<<8 | kind>>8, Ifindex: key.link})
	}
	if err != nil {
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			err = ErrNoLink
		}
		return nil, errors.Join(fmt.Errorf("packet socket: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "packet"), nil
}

// Listen implements Announcer.
func (n *Neighbours) Listen(l Link, addr netip.Addr, hear func(Sighting)) (func(), error) {
	if len(l.MAC) != 6 {
		return nil, fmt.Errorf("%w: %s has no Ethernet address; virtual addresses need an Ethernet interface", ErrInvalid, l.Name)
	}
	key := earKey{l.Index, addr.Is6()}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.close {
		return nil, ErrClosed
	}
	e := n.ears[key]
	if e == nil {
		f, err := n.socket(key)
		if err != nil {
			return nil, err
		}
		e = &ear{key: key, f: f, done: make(chan struct{}), hears: map[netip.Addr]map[int]func(Sighting){}}
		n.ears[key] = e
		go e.run(n.log)
	}
	e.mu.Lock()
	e.nextID++
	id := e.nextID
	if e.hears[addr] == nil {
		e.hears[addr] = map[int]func(Sighting){}
		if err := e.group(addr, unix.PACKET_ADD_MEMBERSHIP); err != nil {
			n.log.Warn("questions for a virtual address may not be heard here", "addr", addr.String(), "interface", l.Name, "err", err)
		}
	}
	e.hears[addr][id] = hear
	e.mu.Unlock()
	return sync.OnceFunc(func() { n.unlisten(e, addr, id) }), nil
}

// group has the interface take, or no more, what is sent to those who have an IPv6 address: solicitations. A box without the address would not
// hear a former holder that asks for it.
func (e *ear) group(addr netip.Addr, option int) error {
	if !e.key.v6 {
		return nil
	}
	a := addr.As16()
	to := unix.PacketMreq{Ifindex: int32(e.key.link), Type: unix.PACKET_MR_MULTICAST, Alen: 6, Address: [8]uint8{0x33, 0x33, 0xff, a[13], a[14], a[15]}}
	raw, err := e.f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, option, &to) })
	return errors.Join(err, serr)
}

func (n *Neighbours) unlisten(e *ear, addr netip.Addr, id int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e.mu.Lock()
	delete(e.hears[addr], id)
	if len(e.hears[addr]) == 0 {
		delete(e.hears, addr)
		_ = e.group(addr, unix.PACKET_DROP_MEMBERSHIP) // it ends with the socket
	}
	last := len(e.hears) == 0
	e.mu.Unlock()
	if last && n.ears[e.key] == e {
		delete(n.ears, e.key)
		e.f.Close()
	}
}

// run hears until the socket is closed.
func (e *ear) run(log *slog.Logger) {
	defer close(e.done)
	buf := make([]byte, 2048)
	for {
		n, err := e.f.Read(buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil: // the interface went down, or away: told once
			log.Debug("packet socket", "interface", e.key.link, "err", err)
			time.Sleep(10 * time.Millisecond) // should it be told again and again
			continue
		}
		addr, s, err := heard(buf[:n])
		if err != nil {
			continue // it is about something else, or nonsense
		}
		e.mu.Lock()
		for _, hear := range e.hears[addr] {
			hear(s)
		}
		e.mu.Unlock()
	}
}

// Probe implements Announcer.
func (n *Neighbours) Probe(l Link, addr netip.Addr) error {
	frames, err := probeFrames(l.MAC, addr)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", addr, err)
	}
	return n.send(l, addr, frames)
}

// Announce implements Announcer.
func (n *Neighbours) Announce(l Link, addr netip.Addr) error {
	frames, err := announceFrames(l.MAC, addr, addr.Is6() && n.router(l))
	if err != nil {
		return fmt.Errorf("announce %s: %w", addr, err)
	}
	return n.send(l, addr, frames)
}

// Withdraw implements Announcer: neighbours find out.
func (n *Neighbours) Withdraw(Link, netip.Addr) error { return nil }

// router reports whether this box routes IPv6 for others: an advertisement that denies it takes their route away (RFC 4861, 7.2.5).
func (n *Neighbours) router(l Link) bool {
	router := false
	_ = n.ns.in(func() error { // a file that cannot be read: it does not route
		// A directory of the thread's: /proc/sys/net is that of who opens it.
		text, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + l.Name + "/forwarding")
		router = err == nil && strings.TrimSpace(string(text)) != "0"
		return err
	})
	return router
}

func (n *Neighbours) send(l Link, addr netip.Addr, frames [][]byte) error {
	n.mu.Lock()
	e := n.ears[earKey{l.Index, addr.Is6()}]
	n.mu.Unlock()
	if e == nil {
		return fmt.Errorf("tell neighbours of %s on %s: %w", addr, l.Name, ErrNoLink)
	}
	raw, err := e.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("tell neighbours of %s on %s: %w", addr, l.Name, err)
	}
	for _, frame := range frames {
		var serr error
		err := raw.Control(func(fd uintptr) { _, serr = syscall.Write(int(fd), frame) }) // at once or not at all
		if errors.Is(serr, unix.ENETDOWN) || errors.Is(serr, unix.ENXIO) || errors.Is(serr, unix.ENODEV) {
			serr = ErrNoLink
		}
		if err := errors.Join(err, serr); err != nil {
			return fmt.Errorf("tell neighbours of %s on %s: %w", addr, l.Name, err)
		}
	}
	return nil
}
