package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsConn asks one server over UDP. It is used by one goroutine.
type dnsConn struct {
	c   net.Conn
	id  uint16
	buf [4096]byte
}

func dialDNS(addr string) (*dnsConn, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	// What the kernel allows of it: a client that is scheduled late must not lose what the server sent.
	if err := c.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		return nil, err
	}
	return &dnsConn{c: c}, nil
}

func (d *dnsConn) close() { _ = d.c.Close() }

// question is a query for the address of a name; its first two bytes are the id.
func question(name string) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	return m.Pack()
}

// lookup is the address of a name, "" when there is none or nobody answers.
func (d *dnsConn) lookup(name string) (string, error) {
	addr, _, err := d.ask(name, 200*time.Millisecond)
	return addr, err
}

// ask is lookup that waits so long for the answer, and tells whether one came.
func (d *dnsConn) ask(name string, wait time.Duration) (addr string, answered bool, err error) {
	q, err := question(name)
	if err != nil {
		return "", false, err
	}
	d.id++
	binary.BigEndian.PutUint16(q, d.id)
	if _, err := d.c.Write(q); err != nil {
		return "", false, nil // nobody listens yet
	}
	if err := d.c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return "", false, err
	}
	for {
		n, err := d.c.Read(d.buf[:])
		if err != nil {
			return "", false, nil
		}
		if n < 2 || binary.BigEndian.Uint16(d.buf[:]) != d.id {
			continue // an answer to an earlier question
		}
		var m dnsmessage.Message
		if err := m.Unpack(d.buf[:n]); err != nil {
			return "", true, fmt.Errorf("answer for %s: %w", name, err)
		}
		for _, a := range m.Answers {
			if body, ok := a.Body.(*dnsmessage.AResource); ok {
				return net.IP(body.A[:]).String(), true, nil
			}
		}
		return "", true, nil
	}
}

// burst sends questions and reads as many answers; what has not come after a while is lost.
func (d *dnsConn) burst(questions [][]byte) (answered int, err error) {
	for _, q := range questions {
		if _, err := d.c.Write(q); err != nil {
			return 0, err
		}
	}
	if err := d.c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return 0, err
	}
	for answered < len(questions) {
		_, err := d.c.Read(d.buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answered, nil
		}
		if err != nil {
			return answered, err
		}
		answered++
	}
	return answered, nil
}
