package dnsd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"hostmesh/dnsd/zone"
)

const (
	batchSize   = 64   // datagrams that one system call takes or gives
	outSize     = 1536 // of a buffer for an answer: udpSize, and one record more
	controlSize = 64   // of a buffer for the address that a datagram was sent to
	readBuffer  = 1 << 20
)

// udpSocket is one of the sockets that share our UDP port; the kernel divides clients between them. One goroutine reads it,
// answers what is plain at once, and hands on the rest. Datagrams are read and written in batches, with buffers that are
// allocated once. The calls are made directly: those of x/net allocate an address for each datagram.
type udpSocket struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	any    bool // bound to all addresses: an answer must be told where it comes from
	server *Server
	tally  *tally
	reader reader
	rnd    *rand.PCG

	rx, tx   [batchSize]mmsghdr
	rxVec    [batchSize]unix.Iovec
	txVec    [batchSize]unix.Iovec
	addrs    [batchSize]unix.RawSockaddrInet6 // or Inet4
	controls [][controlSize]byte              // none unless any
	in       [batchSize][udpSize]byte
	out      [batchSize][outSize]byte

	got, send, sent int  // of the batch under way
	tell            bool // the scheduler of the calls that follow
	failed          error
	write           func(fd uintptr) bool // sendmmsg
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// listenUDP binds n sockets to one address.
func listenUDP(addr string, n int) ([]*udpSocket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			if n > 1 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		}), err)
	}}
	var out []*udpSocket
	for range n {
		c, err := lc.ListenPacket(context.Background(), "udp", addr)
		if err == nil {
			var u *udpSocket
			if u, err = newUDPSocket(c.(*net.UDPConn)); err == nil {
				out = append(out, u)
				continue
			}
			_ = c.Close()
		}
		closeUDP(out)
		return nil, err
	}
	return out, nil
}

func closeUDP(list []*udpSocket) {
	for _, u := range list {
		_ = u.conn.Close() // it may be closed already
	}
}

func newUDPSocket(c *net.UDPConn) (*udpSocket, error) {
	u := &udpSocket{conn: c, tally: newTally(), rnd: rand.NewPCG(rand.Uint64(), rand.Uint64())}
	u.any = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().IsUnspecified()
	u.reader.seed = rand.Uint64()
	_ = c.SetReadBuffer(readBuffer) // a burst of queries while we compile; less will do
	var err error
	if u.raw, err = c.SyscallConn(); err != nil {
		return nil, err
	}
	if u.any {
		u.controls = make([][controlSize]byte, batchSize)
		if err := u.wantDestination(); err != nil {
			return nil, err
		}
	}
	for i := range batchSize {
		u.rxVec[i].Base = &u.in[i][0]
		u.rxVec[i].SetLen(len(u.in[i]))
		u.rx[i].hdr.Name = (*byte)(unsafe.Pointer(&u.addrs[i]))
		u.rx[i].hdr.Iov = &u.rxVec[i]
		u.rx[i].hdr.SetIovlen(1)
		u.tx[i].hdr.Iov = &u.txVec[i]
		u.tx[i].hdr.SetIovlen(1)
		u.rearm(i)
	}
	u.write = u.sendmmsg
	return u, nil
}

// wantDestination has the kernel tell to which address a datagram was sent, for the answer must come from there.
func (u *udpSocket) wantDestination() error {
	var err4, err6 error
	err := u.raw.Control(func(fd uintptr) {
		err4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		err6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	if err == nil && err4 != nil && err6 != nil { // one of them is not of this family
		err = fmt.Errorf("ask for the destination of datagrams: %w", err4)
	}
	return err
}

// run reads until the socket's read deadline passes or it is closed.
func (u *udpSocket) run() error {
	err := u.raw.Read(u.serve)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err == nil {
		err = u.failed
	}
	return err
}

// serve answers what is there, and returns false when that is all: then the runtime waits for more and calls it again. It
// does not ask again when a batch was not full, for that was all; what comes meanwhile is not lost to the wait, because
// raw.Read goes on.
func (u *udpSocket) serve(fd uintptr) (done bool) {
	for {
		for i := range u.got {
			u.rearm(i)
		}
		errno := u.recvmmsg(fd)
		switch {
		case errno != 0:
			u.failed = fmt.Errorf("receive datagrams: %w", errno)
			return true
		case u.got == 0:
			return false
		}
		u.tell = u.got == batchSize
		start := time.Now()
		u.answer()
		if !u.write(fd) { // the buffer is full: wait for room
			if err := u.raw.Write(u.write); err != nil {
				if !errors.Is(err, net.ErrClosed) {
					u.failed = err
				}
				return true
			}
		}
		if u.send > 0 {
			u.tally.latency.observe(time.Since(start), u.send)
		}
		switch {
		case u.server.ending.Load():
			return true
		case u.got < batchSize:
			return false
		}
	}
}

// rearm resets what the kernel wrote into the header of datagram i.
func (u *udpSocket) rearm(i int) {
	h := &u.rx[i].hdr
	h.Namelen = uint32(unsafe.Sizeof(u.addrs[i]))
	if u.any {
		h.Control = &u.controls[i][0]
		h.SetControllen(controlSize)
	}
}

// recvmmsg takes what is there; that may be nothing.
func (u *udpSocket) recvmmsg(fd uintptr) syscall.Errno {
	u.got = 0
	for {
		n, errno := u.call(unix.SYS_RECVMMSG, fd, u.rx[:])
		switch errno {
		case 0:
			u.got = n
			return 0
		case syscall.EAGAIN:
			return 0
		case syscall.EINTR, syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH: // the latter of an answer before
		default:
			return errno
		}
	}
}

// call receives or sends a batch. It does not wait, so the Go scheduler need not be told: that costs more than all else we do, for
// its monitor thread, which sleeps while every goroutine waits, would be woken for each small batch and then look around every 20
// microseconds. It is told of full batches: they take long, and we do not wait after them, so that the monitor must be there to let
// others run. After all others we wait, which does.
func (u *udpSocket) call(trap, fd uintptr, list []mmsghdr) (int, syscall.Errno) {
	first, n := unsafe.SliceData(list), uintptr(len(list))
	if u.tell {
		done, _, errno := syscall.Syscall6(trap, fd, uintptr(unsafe.Pointer(first)), n, unix.MSG_DONTWAIT, 0, 0)
		return int(done), errno
	}
	done, _, errno := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(first)), n, unix.MSG_DONTWAIT, 0, 0)
	return int(done), errno
}

// answer answers what is plain of a batch. A datagram that makes us panic is left out.
func (u *udpSocket) answer() {
	z := u.server.zones.Load() // a batch is answered by one version of everything
	u.send, u.sent = 0, 0
	sample := 0
	if u.got > 1 {
		sample = int(u.rnd.Uint64() >> 32 * uint64(u.got) >> 32)
	}
	for i := 0; i < u.got; {
		i = u.answerFrom(z, i, sample)
	}
}

// answerFrom answers from datagram i on, to the end of the batch or until one makes us panic, and returns where to go on.
func (u *udpSocket) answerFrom(z *zone.Zones, i, sample int) (next int) {
	defer func() {
		if p := recover(); p != nil {
			u.server.panicked("answer over udp", fmt.Sprintf("%x", u.in[i][:min(u.rx[i].n, udpSize)]), p)
			next = i + 1
		}
	}()
	for ; i < u.got; i++ {
		from := u.from(i)
		packet := u.in[i][:min(u.rx[i].n, udpSize)]
		if i == sample {
			u.tally.askers.add(from.Addr(), u.got)
		}
		if u.rx[i].hdr.Flags&unix.MSG_TRUNC == 0 {
			if reply, s, ok := u.reader.answer(z, packet, u.out[u.send][:0], from.Addr(), true); ok {
				u.tally.count(s)
				u.queue(i, reply)
				continue
			}
		}
		u.server.slow.take(u, packet, from, u.destination(i))
	}
	return i
}

// from is who sent datagram i.
func (u *udpSocket) from(i int) netip.AddrPort {
	if a := &u.addrs[i]; a.Family == unix.AF_INET6 {
		addr := netip.AddrFrom16(a.Addr)
		if addr.Is4In6() {
			addr = addr.Unmap()
		} else if a.Scope_id != 0 {
			addr = addr.WithZone(strconv.Itoa(int(a.Scope_id)))
		}
		return netip.AddrPortFrom(addr, swapped(a.Port))
	}
	a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&u.addrs[i]))
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), swapped(a.Port))
}

// swapped is a port as the kernel has it: in the order of the network, whatever that of this machine is.
func swapped(port uint16) uint16 {
	b := *(*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// queue puts an answer to datagram i among those to be sent.
func (u *udpSocket) queue(i int, reply []byte) {
	u.txVec[u.send].Base = unsafe.SliceData(reply)
	u.txVec[u.send].SetLen(len(reply))
	h := &u.tx[u.send].hdr
	h.Name, h.Namelen = u.rx[i].hdr.Name, u.rx[i].hdr.Namelen
	if control := u.destination(i); len(control) > 0 {
		h.Control = &control[0]
		h.SetControllen(len(control))
	} else {
		h.Control = nil
		h.SetControllen(0)
	}
	u.send++
}

// destination is the control message by which an answer to datagram i comes from the address that it was sent to; none if
// there is but one. The interface is left open, for the way back may be another one, but for link-local addresses.
func (u *udpSocket) destination(i int) []byte {
	if !u.any {
		return nil
	}
	control := u.controls[i][:min(int(u.rx[i].hdr.Controllen), controlSize)]
	if len(control) < unix.SizeofCmsghdr {
		return nil
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	data := control[unix.CmsgLen(0):]
	switch {
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex = 0
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
	default:
		return nil
	}
	return control[:min(len(control), unix.CmsgSpace(int(c.Len)-unix.CmsgLen(0)))]
}

// sendmmsg sends what it can. It returns false when the buffer of the socket is full.
func (u *udpSocket) sendmmsg(fd uintptr) bool {
	for u.sent < u.send {
		n, errno := u.call(unix.SYS_SENDMMSG, fd, u.tx[u.sent:u.send])
		switch errno {
		case 0:
			u.sent += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default: // this one cannot be sent: to port 0, or a filter forbids it
			u.sent++
		}
	}
	return true
}

// udpSockets is how many sockets there are: as many as goroutines can run at a time.
func udpSockets() int { return runtime.GOMAXPROCS(0) }
