package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is good when a query for localhost, type A, is answered, over the port's own protocol. Resolvers know that name by themselves (RFC 6761
// section 6.3), and servers that are not resolvers refuse it, which shows that they work. SERVFAIL is bad. Over UDP the query is sent again when
// half of the time has passed.
type DNS struct{}

// Probe implements Prober.
func (DNS) Probe(ctx context.Context, t Target) error {
	id := uint16(rand.Uint32())
	query, err := dnsQuery(id)
	if err != nil {
		return err
	}
	if t.Proto == "tcp" {
		return dnsTCP(ctx, t, id, query)
	}
	return dnsUDP(ctx, t, id, query)
}

func dnsQuery(id uint16) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	err := errors.Join(b.StartQuestions(), b.Question(dnsQuestion))
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

var dnsQuestion = dnsmessage.Question{Name: dnsmessage.MustNewName("localhost."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}

// dnsAnswer judges what came. stray is for a message that is not an answer to this query: over UDP anybody may send one.
func dnsAnswer(id uint16, b []byte) (err error, stray bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response {
		return fmt.Errorf("%w: not a DNS message, or not an answer to the query", ErrBad), true
	}
	if h.RCode == dnsmessage.RCodeServerFailure {
		return fmt.Errorf("%w: it answers SERVFAIL", ErrBad), false
	}
	// A server that refuses may leave the question out.
	if q, err := p.Question(); err == nil && q.Type != dnsQuestion.Type {
		return fmt.Errorf("%w: it answers another question", ErrBad), true
	}
	return nil, false
}

func dnsUDP(ctx context.Context, t Target, id uint16, query []byte) error {
	c, err := dial(ctx, "udp", t)
	if err != nil {
		return err
	}
	defer c.Close()
	end, bounded := ctx.Deadline()
	again := bounded
	b := make([]byte, 4096)
	if _, err := c.Write(query); err != nil {
		return plainly(ctx, err)
	}
	if again {
		_ = c.SetReadDeadline(time.Now().Add(time.Until(end) / 2))
	}
	for {
		n, err := c.Read(b)
		var late net.Error
		if err != nil && again && errors.As(err, &late) && late.Timeout() {
			again = false
			_ = c.SetReadDeadline(end)
			if _, err := c.Write(query); err != nil {
				return plainly(ctx, err)
			}
			continue
		}
		if err != nil {
			return plainly(ctx, err)
		}
		if err, stray := dnsAnswer(id, b[:n]); !stray {
			return err
		}
	}
}

func dnsTCP(ctx context.Context, t Target, id uint16, query []byte) error {
	c, err := dial(ctx, "tcp", t)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return plainly(ctx, err)
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return plainly(ctx, err)
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return plainly(ctx, err)
	}
	err, _ = dnsAnswer(id, b)
	return err
}
