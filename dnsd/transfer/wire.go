package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// wire is the teller that speaks UDP.
type wire struct {
	keys    *Keys
	source  netip.Addr
	timeout time.Duration
}

func (w *wire) notify(ctx context.Context, to target, key string, soa *dns.SOA) error {
	m := new(dns.Msg)
	m.SetNotify(to.origin)
	m.Answer = []dns.RR{soa}
	_, err := w.exchange(ctx, m, to, key)
	return err
}

func (w *wire) serial(ctx context.Context, to target, key string) (uint32, error) {
	m := new(dns.Msg)
	m.SetQuestion(to.origin, dns.TypeSOA)
	m.RecursionDesired = false
	answer, err := w.exchange(ctx, m, to, key)
	if err != nil {
		return 0, err
	}
	for _, rr := range answer.Answer {
		if soa, ok := rr.(*dns.SOA); ok && strings.EqualFold(soa.Hdr.Name, to.origin) {
			return soa.Serial, nil
		}
	}
	return 0, zoneError{errors.New("it answers without a SOA: it does not have the zone")}
}

// exchange sends a message, signed if there is a key, and returns the answer if that is a good one.
func (w *wire) exchange(ctx context.Context, m *dns.Msg, to target, key string) (*dns.Msg, error) {
	c := &dns.Client{Net: "udp", Timeout: w.timeout, Dialer: &net.Dialer{Timeout: w.timeout}}
	if w.source.IsValid() && w.source.Is4() == to.addr.Addr().Unmap().Is4() {
		c.Dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.source, 0))
	}
	if key != "" {
		k := w.keys.find(key)
		if k == nil {
			return nil, zoneError{fmt.Errorf("there is no TSIG key %s: hostmesh dns key add %s", strings.TrimSuffix(key, "."), strings.TrimSuffix(key, "."))}
		}
		c.TsigProvider = k
		m.SetTsig(k.name, k.wireAlgorithm(), fudge, time.Now().Unix())
	}
	answer, _, err := c.ExchangeContext(ctx, m, to.addr.String())
	switch {
	case err != nil:
		return nil, err
	case answer.Opcode != m.Opcode:
		return nil, zoneError{errors.New("it answers something else than was asked")}
	case answer.Rcode != dns.RcodeSuccess && m.Opcode == dns.OpcodeNotify:
		return nil, zoneError{fmt.Errorf("it answers %s: it must have the zone, and take NOTIFY from every agent", dns.RcodeToString[answer.Rcode])}
	case answer.Rcode != dns.RcodeSuccess:
		return nil, zoneError{fmt.Errorf("it answers %s when asked for its SOA", dns.RcodeToString[answer.Rcode])}
	}
	return answer, nil
}
