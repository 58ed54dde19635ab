package integration

import (
	order "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inSpace runs f on a thread that is in a network namespace: sockets that it makes are of that one, whoever uses them then. The thread goes home
// after that and does not end: with the end of a thread the kernel ends the processes that it started, where they asked for it.
func inSpace(t *testing.T, space string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(home)
		fd, err := unix.Open("/run/netns/"+space, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("network namespace %s: %w", space, err)
			return
		}
		err = f()
		if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
			t.Errorf("a thread stays in network namespace %s: %v", space, back)
		} else {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// member is a server behind the balancer: it says its name to whoever connects, over HTTP too, and sends datagrams back.
type member struct {
	name string
	tcp  net.Listener
	udp  net.PacketConn
}

func newMember(t *testing.T, space, addr string, port int) *member {
	t.Helper()
	m := &member{name: space}
	err := inSpace(t, space, func() (err error) {
		at := fmt.Sprintf("%s:%d", addr, port)
		if m.tcp, err = net.Listen("tcp", at); err == nil {
			m.udp, err = net.ListenPacket("udp", at)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.tcp.Close(); m.udp.Close() })
	go func() {
		for {
			c, err := m.tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = c.Write([]byte(m.name + "\n"))
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := m.udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = m.udp.WriteTo(buf[:n], from)
		}
	}()
	return m
}

// try is an attempt of a client.
type try struct {
	began, ended time.Time
	err          error
	by           string // the member that answered
}

// quick is until when an answer came without a packet being sent twice.
const quick = 800 * time.Millisecond

func (a try) quick() bool { return a.err == nil && a.ended.Sub(a.began) < quick }

// client connects to an address all the time, or sends it datagrams.
type client struct {
	what string
	stop atomic.Bool
	wg   sync.WaitGroup

	mu    sync.Mutex // guards tries
	tries []try
}

func (c *client) add(a try) {
	c.mu.Lock()
	c.tries = append(c.tries, a)
	c.mu.Unlock()
}

// newClient connects 50 times a second.
func newClient(t *testing.T, space, what string, to netip.AddrPort) *client {
	c := &client{what: what}
	sa := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	c.wg.Go(func() {
		err := inSpace(t, space, func() error {
			for ; !c.stop.Load(); time.Sleep(20 * time.Millisecond) {
				began := time.Now()
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				err = unix.Connect(fd, sa)
				f := os.NewFile(uintptr(fd), "tcp")
				if err != nil && !errors.Is(err, unix.EINPROGRESS) {
					f.Close()
					c.add(try{began, time.Now(), err, ""})
					continue
				}
				c.wg.Go(func() {
					defer f.Close()
					_ = f.SetDeadline(began.Add(10 * time.Second))
					by, err := greeted(f)
					c.add(try{began, time.Now(), err, by})
				})
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	return c
}

// greeted waits until a socket is connected, and reads the name of who answers.
func greeted(f *os.File) (string, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return "", err
	}
	var cerr error
	err = raw.Write(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || n != 0 {
			cerr = errors.Join(err, unix.Errno(n))
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	if err = errors.Join(err, cerr); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	n, err := f.Read(buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// newPinger sends 100 datagrams a second over one flow.
func newPinger(t *testing.T, space, what string, to netip.AddrPort) *client {
	c := &client{what: what}
	var conn net.Conn
	if err := inSpace(t, space, func() (err error) { conn, err = net.Dial("udp", to.String()); return err }); err != nil {
		t.Fatal(err)
	}
	var sent []time.Time // guarded by c.mu
	c.wg.Go(func() {
		defer conn.Close()
		for ; !c.stop.Load(); time.Sleep(10 * time.Millisecond) {
			c.mu.Lock()
			n := len(sent)
			sent = append(sent, time.Now())
			c.mu.Unlock()
			_, _ = conn.Write(order.BigEndian.AppendUint64(nil, uint64(n))) // while nobody has the address it may fail
		}
	})
	c.wg.Go(func() {
		buf := make([]byte, 64)
		for !c.stop.Load() {
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			n, err := conn.Read(buf)
			if err != nil || n != 8 {
				continue
			}
			c.mu.Lock()
			if k := order.BigEndian.Uint64(buf); k < uint64(len(sent)) {
				c.tries = append(c.tries, try{began: sent[k], ended: time.Now()})
			}
			c.mu.Unlock()
		}
	})
	return c
}

func (c *client) end() {
	c.stop.Store(true)
	c.wg.Wait()
}

// since are the attempts that began after a time, in their order.
func (c *client) since(from time.Time) []try {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []try
	for _, a := range c.tries {
		if a.began.After(from) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b try) int { return a.began.Compare(b.began) })
	return out
}

// without is the longest time in which no attempt that began was answered at once.
func without(list []try) time.Duration {
	var longest time.Duration
	var last time.Time
	for _, a := range list {
		if !a.quick() {
			continue
		}
		if !last.IsZero() {
			longest = max(longest, a.began.Sub(last))
		}
		last = a.began
	}
	return longest
}

// serves waits until attempts that begin now are answered.
func (c *client) serves(t *testing.T) {
	t.Helper()
	wait(t, c.what+" is served", func() error {
		n := 0
		for _, a := range c.since(time.Now().Add(-time.Second)) {
			if a.quick() {
				n++
			}
		}
		if n < 20 {
			return fmt.Errorf("%d attempts of the last second were answered", n)
		}
		return nil
	})
}

// saying is what somebody said of an address on the wire.
type saying struct {
	at    time.Time // by the kernel
	addr  netip.Addr
	mac   string
	plain bool // an answer to a question; otherwise an announcement
}

// ear asks by ARP who has some addresses, 100 times a second, and hears what is said of them.
type ear struct {
	stop atomic.Bool
	wg   sync.WaitGroup

	mu    sync.Mutex // guards heard
	heard []saying
}

func newEar(t *testing.T, space string, own netip.Addr, addrs []netip.Addr) *ear {
	t.Helper()
	e := &ear{}
	var fd, link int
	var mac net.HardwareAddr
	err := inSpace(t, space, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		link, mac = i.Index, i.HardwareAddr
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(network16(unix.ETH_P_ARP))); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network16(unix.ETH_P_ARP), Ifindex: link})
	})
	if err != nil {
		t.Fatal(err)
	}
	e.wg.Go(func() {
		for ; !e.stop.Load(); time.Sleep(10 * time.Millisecond) {
			for _, a := range addrs {
				_ = unix.Sendto(fd, question(mac, own, a), 0, &unix.SockaddrLinklayer{Protocol: network16(unix.ETH_P_ARP), Ifindex: link, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}})
			}
		}
	})
	e.wg.Go(func() {
		buf, oob := make([]byte, 256), make([]byte, 256)
		for !e.stop.Load() {
			n, on, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
			if err != nil || n < 42 {
				continue
			}
			a := saying{at: stamped(oob[:on]), addr: netip.AddrFrom4([4]byte(buf[28:32])), mac: net.HardwareAddr(buf[22:28]).String()}
			a.plain = netip.AddrFrom4([4]byte(buf[38:42])) != a.addr
			if slices.Contains(addrs, a.addr) && (!a.plain || order.BigEndian.Uint16(buf[20:]) == 2) {
				e.mu.Lock()
				e.heard = append(e.heard, a)
				e.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		e.stop.Store(true)
		e.wg.Wait()
		_ = unix.Close(fd)
	})
	return e
}

func network16(v int) uint16 { return uint16(v)<<8 | uint16(v)>>8 }

// question is an ARP request (RFC 826).
func question(mac net.HardwareAddr, own, about netip.Addr) []byte {
	b := append([]byte{255, 255, 255, 255, 255, 255}, mac...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, mac...), own.AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), about.AsSlice()...)
}

// stamped is when the kernel got a message.
func stamped(oob []byte) time.Time {
	list, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range list {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(order.NativeEndian.Uint64(m.Data)), int64(order.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// since are what was heard of an address after a time.
func (e *ear) since(from time.Time, addr netip.Addr) []saying {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []saying
	for _, a := range e.heard {
		if a.addr == addr && a.at.After(from) {
			out = append(out, a)
		}
	}
	return out
}

// late are the announcements of boxes that did not answer for the address at that time.
func late(lists ...[]saying) (n int) {
	const near = 500 * time.Millisecond // between two questions, on a busy machine
	answering := spans(lists...)
	for _, a := range slices.Concat(lists...) {
		if !a.plain && !slices.ContainsFunc(answering, func(x span) bool {
			return x.mac == a.mac && a.at.After(x.first.Add(-near)) && a.at.Before(x.last.Add(near))
		}) {
			n++
		}
	}
	return n
}

// sinceAnother leaves out what a box announced before another answered.
func sinceAnother(mac string, lists ...[]saying) (out [][]saying) {
	var first time.Time
	for _, a := range slices.Concat(lists...) {
		if a.plain && a.mac != mac && (first.IsZero() || a.at.Before(first)) {
			first = a.at
		}
	}
	for _, list := range lists {
		out = append(out, slices.DeleteFunc(slices.Clone(list), func(a saying) bool {
			return !a.plain && a.mac == mac && (first.IsZero() || a.at.Before(first))
		}))
	}
	return out
}

// span is a time in which one box answered for an address.
type span struct {
	mac         string
	first, last time.Time
}

// spans are the times in which boxes answered, by the answers that several heard. A box that is silent for half a second has stopped.
func spans(lists ...[]saying) []span {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b saying) int { return a.at.Compare(b.at) })
	var out []span
	open := map[string]int{}
	for _, a := range all {
		if !a.plain {
			continue
		}
		if i, ok := open[a.mac]; ok && a.at.Sub(out[i].last) < 500*time.Millisecond {
			out[i].last = a.at
			continue
		}
		open[a.mac] = len(out)
		out = append(out, span{a.mac, a.at, a.at})
	}
	return out
}

// overlap is the longest time in which two boxes answered.
func overlap(list []span) time.Duration {
	var longest time.Duration
	for i, a := range list {
		for _, b := range list[i+1:] {
			if a.mac == b.mac {
				continue
			}
			from, to := a.first, a.last
			if b.first.After(from) {
				from = b.first
			}
			if b.last.Before(to) {
				to = b.last
			}
			longest = max(longest, to.Sub(from))
		}
	}
	return longest
}
