package dnsd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	slowQueue   = 256 // datagrams that wait; beyond, they are dropped as the kernel would
	slowWorkers = 8   // some may wait for keys or for a transfer's answer
)

// slowPath answers the datagrams that are not plain, with all of DNS.
type slowPath struct {
	server *Server
	queue  chan *slowPacket
	free   sync.Pool
}

// slowPacket is one such datagram. It owns its bytes.
type slowPacket struct {
	socket  *udpSocket
	from    netip.AddrPort
	came    time.Time
	n       int
	control int
	wire    [udpSize]byte
	oob     [controlSize]byte
}

func newSlowPath(s *Server) *slowPath {
	return &slowPath{server: s, queue: make(chan *slowPacket, slowQueue), free: sync.Pool{New: func() any { return new(slowPacket) }}}
}

// take copies a datagram into the queue.
func (p *slowPath) take(u *udpSocket, wire []byte, from netip.AddrPort, control []byte) {
	if len(wire) >= headerSize && wire[2]&bitQR != 0 { // an answer to nobody
		p.server.metrics.garbageUDP.Inc()
		return
	}
	k := p.free.Get().(*slowPacket)
	k.socket, k.from, k.came = u, from, time.Now()
	k.n, k.control = copy(k.wire[:], wire), copy(k.oob[:], control)
	select {
	case p.queue <- k:
	default:
		p.server.metrics.dropped.Inc()
		p.free.Put(k)
	}
}

// run answers until the queue is closed.
func (p *slowPath) run() {
	for k := range p.queue {
		p.try(k)
		p.free.Put(k)
	}
}

// try is serve, and outlives a panic of it.
func (p *slowPath) try(k *slowPacket) {
	defer func() {
		if x := recover(); x != nil {
			p.server.panicked("answer over udp", fmt.Sprintf("%x", k.wire[:k.n]), x)
		}
	}()
	p.serve(k)
}

// serve answers one datagram.
func (p *slowPath) serve(k *slowPacket) {
	s, wire := p.server, k.wire[:k.n]
	if len(wire) < headerSize {
		s.metrics.garbageUDP.Inc()
		return
	}
	w := &udpWriter{server: s, packet: k}
	if foreign(wire) {
		w.say(appendForeign(nil, wire))
		return
	}
	switch dns.DefaultMsgAcceptFunc(headerOf(wire)) {
	case dns.MsgIgnore:
		return
	case dns.MsgReject:
		s.metrics.garbageUDP.Inc()
		w.say(appendRefusal(nil, wire, rcodeFormErr))
		return
	}
	req := new(dns.Msg)
	if err := req.Unpack(wire); err != nil || cutOff(wire) {
		s.metrics.garbageUDP.Inc()
		w.say(appendRefusal(nil, wire, rcodeFormErr))
		return
	}
	if t := req.IsTsig(); t != nil && s.cfg.Transfers != nil {
		w.mac = t.MAC
		w.tsig = dns.TsigVerifyWithProvider(wire, s.cfg.Transfers, "", false)
	}
	s.serve(w, req, k.came)
}

func headerOf(wire []byte) dns.Header {
	be := binary.BigEndian
	return dns.Header{Id: be.Uint16(wire), Bits: be.Uint16(wire[2:]), Qdcount: be.Uint16(wire[4:]), Ancount: be.Uint16(wire[6:]),
		Nscount: be.Uint16(wire[8:]), Arcount: be.Uint16(wire[10:])}
}

// udpWriter answers one datagram.
type udpWriter struct {
	server *Server
	packet *slowPacket
	mac    string
	tsig   error
	timers bool
}

var errNoHijack = errors.New("a datagram has no connection")

func (w *udpWriter) LocalAddr() net.Addr        { return w.packet.socket.conn.LocalAddr() }
func (w *udpWriter) RemoteAddr() net.Addr       { return net.UDPAddrFromAddrPort(w.packet.from) }
func (w *udpWriter) Close() error               { return errNoHijack }
func (w *udpWriter) TsigStatus() error          { return w.tsig }
func (w *udpWriter) TsigTimersOnly(timers bool) { w.timers = timers }
func (w *udpWriter) Hijack()                    {}

func (w *udpWriter) Write(b []byte) (int, error) {
	n, _, err := w.packet.socket.conn.WriteMsgUDPAddrPort(b, w.packet.oob[:w.packet.control], w.packet.from)
	return n, err
}

func (w *udpWriter) WriteMsg(m *dns.Msg) (err error) {
	var wire []byte
	if m.IsTsig() != nil && w.server.cfg.Transfers != nil {
		wire, w.mac, err = dns.TsigGenerateWithProvider(m, w.server.cfg.Transfers, w.mac, w.timers)
	} else {
		wire, err = m.Pack()
	}
	if err == nil {
		_, err = w.Write(wire)
	}
	return err
}

// say sends an answer that is made without the question, and counts it.
func (w *udpWriter) say(reply []byte) {
	if _, err := w.Write(reply); err != nil {
		w.server.logUnsent(w.RemoteAddr(), err)
	}
	w.server.slowTally.answered(said{rcode: reply[3] & 0xf}, netip.Addr{}, time.Since(w.packet.came))
}
