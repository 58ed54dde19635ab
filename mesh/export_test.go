package mesh

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
)

// MetaSize returns the size of the member metadata as serf made it, and as tagsSize foretells it.
func MetaSize(m *Mesh) (real, foretold int) {
	return len(m.serf.Load().Memberlist().LocalNode().Meta), tagsSize(encodeTags(&m.cfg, m.cfg.StreamPort))
}

// OpenStreams opens so many streams to a member, as a member would that does not keep to one.
func OpenStreams(ctx context.Context, m *Mesh, to Member, n int) error {
	return openStreams(ctx, m, to, n, ordinary)
}

// OpenUrgentStreams is OpenStreams in the urgent lane.
func OpenUrgentStreams(ctx context.Context, m *Mesh, to Member, n int) error {
	return openStreams(ctx, m, to, n, urgent)
}

func openStreams(ctx context.Context, m *Mesh, to Member, n int, in lane) error {
	for range n {
		c, _, err := m.streams.greet(ctx, to.Stream(), to.ID, in)
		if err != nil {
			return err
		}
		if !m.streams.opens(c) {
			return ErrClosed
		}
	}
	return nil
}

// SendUrgent sends a request over an urgent stream, as a member would that does not keep to the lane's bound.
func SendUrgent(ctx context.Context, m *Mesh, to Member, req []byte) error {
	c, _, err := m.streams.greet(ctx, to.Stream(), to.ID, urgent)
	if err != nil {
		return err
	}
	if !m.streams.opens(c) {
		return ErrClosed
	}
	_, err = c.call(ctx, "echo", req)
	return err
}

// WelcomeFormer takes a stream as the build before lanes did, which read three strings of a hello and skipped the rest.
func WelcomeFormer(m *Mesh, nc net.Conn) {
	s := m.streams
	tc := tls.Server(nc, s.id.server())
	if err := tc.HandshakeContext(s.ctx); err != nil {
		nc.Close()
		return
	}
	node, err := s.id.verify(tc.ConnectionState())
	if err != nil {
		nc.Close()
		return
	}
	r := bufio.NewReader(&countingConn{Conn: tc, s: s, live: true})
	head := make([]byte, frameHead)
	if _, err := io.ReadFull(r, head); err != nil {
		nc.Close()
		return
	}
	b := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(r, b); err != nil {
		nc.Close()
		return
	}
	end := frameFixed + 2
	for range 3 {
		end += 2 + int(binary.BigEndian.Uint16(b[end:]))
	}
	f, err := parseFrame(b[:end])
	if err != nil {
		nc.Close()
		return
	}
	version, code, _ := s.judge(peerAddr(nc.RemoteAddr()), node, f.hello)
	if code != "" {
		nc.Close()
		return
	}
	answer := frame{version: version, kind: welcomeKind, hello: s.hello(s.mesh(), ordinary)}
	if _, err := tc.Write(answer.append(nil)); err != nil {
		nc.Close()
		return
	}
	c := newConn(s, tc, r, version, Caller{ID: node, Name: f.hello.name, Addr: peerAddr(nc.RemoteAddr())}, ordinary, false)
	if !s.opens(c) {
		c.close(ErrClosed)
	}
}
