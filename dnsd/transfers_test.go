package dnsd

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"hostmesh/mesh"
)

// secretTransfers signs with one key, answers questions plainly, and remembers what it was given.
type secretTransfers struct {
	dns.TsigProvider
	served chan string
}

func (t secretTransfers) Serve(w dns.ResponseWriter, req *dns.Msg, plain func() *dns.Msg) {
	m := new(dns.Msg)
	switch {
	case req.IsTsig() != nil && w.TsigStatus() == nil:
		m = plain()
		m.SetTsig(req.IsTsig().Hdr.Name, req.IsTsig().Algorithm, 300, time.Now().Unix())
	default:
		m.SetRcode(req, dns.RcodeRefused)
	}
	t.served <- dns.OpcodeToString[req.Opcode] + " " + dns.TypeToString[req.Question[0].Qtype]
	_ = w.WriteMsg(m)
}

// Requests about whole zones, and signed ones, reach Transfers, by both protocols.
func TestTransfersAreHandedOver(t *testing.T) {
	hook := secretTransfers{keyed, make(chan string, 16)}
	s := startServer(t, func(c *Config) { c.Transfers = hook })
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	for _, network := range []string{"udp", "tcp"} {
		for want, m := range map[string]*dns.Msg{
			"QUERY AXFR":  question("x.test.", dns.TypeAXFR),
			"NOTIFY SOA":  new(dns.Msg).SetNotify("x.test."),
			"QUERY IXFR":  new(dns.Msg).SetIxfr("x.test.", 1, ".", "."),
			"QUERY HINFO": question("x.test.", dns.TypeHINFO).SetTsig("xfer.", dns.HmacSHA256, 300, time.Now().Unix()),
		} {
			if m.IsTsig() != nil {
				c := dns.Client{Net: network, TsigProvider: keyed, Timeout: 30 * time.Second}
				r, _, err := c.Exchange(m, s.Addr().String())
				if err != nil || r.IsTsig() == nil || r.Rcode != dns.RcodeSuccess || !r.Authoritative {
					t.Errorf("%s %s: %v %v", network, want, err, r)
				}
			} else if r := query(t, s, network, m); r.Rcode != dns.RcodeRefused {
				t.Errorf("%s %s: %v", network, want, r)
			}
			if got := <-hook.served; got != want {
				t.Errorf("%s: %s was handed over, want %s", network, got, want)
			}
		}
	}
}

// Without keys a signed request is told so, and its question is not answered (RFC 8945 section 5.2.1).
func TestSignedWithoutKeys(t *testing.T) {
	s := startServer(t, nil)
	reconcile(t, s, smallSite(t, 2), mesh.View{})
	m := question("h1.x.test.", dns.TypeA).SetTsig("xfer.", dns.HmacSHA256, 300, time.Now().Unix())
	wire, _, err := dns.TsigGenerateWithProvider(m, keyed, "", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		r := exchangeRaw(t, s, network, wire)
		if sig := r.IsTsig(); r.Rcode != dns.RcodeNotAuth || sig == nil || sig.Error != dns.RcodeBadKey || sig.MACSize != 0 || len(r.Answer) != 0 {
			t.Errorf("%s: %v", network, r)
		}
	}
}
