package transfer

import (
	"context"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/dnsd/zone"
	"hostmesh/mesh"
)

const (
	udpSize    = 1232 // DNS flag day 2020: fits every path without fragments
	minUDPSize = 512  // RFC 1035 section 4.2.1
)

// Config is what a Service needs. Begin with DefaultConfig.
type Config struct {
	// Keys are the TSIG keys; nil: there are none.
	Keys *Keys
	// View is the mesh: who of it tells secondaries of changes. nil: this node alone is there.
	View func() mesh.View
	// Peers tell whether they tell secondaries, and are told that this node does while Run runs. nil: all members do.
	Peers Peers
	// Source is the address that secondaries are told from. The zero address leaves that to the system.
	Source netip.Addr
	// Limits bound the journal.
	Limits Limits
	// MaxTransfers bounds transfers at a time, a quarter of it those to one address.
	MaxTransfers int
	// Slow ends a transfer that after Patience has gone more slowly, in bytes a second.
	Slow     int
	Patience time.Duration
	// Notify are the times of telling secondaries.
	Notify NotifyTimes
	// Logger is nil for slog.Default().
	Logger *slog.Logger
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Limits:       DefaultLimits(),
		MaxTransfers: 32,               // each holds a message and a connection
		Slow:         16 << 10,         // ten thousand hosts take half a minute
		Patience:     30 * time.Second, // a secondary that loads what it has got
		Notify:       DefaultNotifyTimes(),
	}
}

// Service answers transfers and tells secondaries of changes. All methods are safe for concurrent use.
type Service struct {
	cfg     Config
	log     *slog.Logger
	journal *Journal
	metrics *metrics
	notify  *notifier
	refused refusals

	publish sync.Mutex // one Publish at a time

	mu       sync.Mutex // guards the fields below
	policies policies
	running  map[netip.Addr]int // transfers under way, by asker
	all      int
}

// New makes a Service. It answers REFUSED until the first Publish, and tells nobody anything before Run.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Service{cfg: cfg, log: cfg.Logger, journal: NewJournal(cfg.Limits), policies: policies{}, running: map[netip.Addr]int{}}
	s.refused.log = s.log
	s.metrics = newMetrics(s)
	s.notify = newNotifier(s)
	return s
}

// Publish tells what is about to be served. It must be called in the order in which zones come to be served, before they do;
// Served follows it when they do.
func (s *Service) Publish(z *zone.Zones) {
	s.publish.Lock()
	defer s.publish.Unlock()
	s.mu.Lock()
	next := policies{}
	for _, i := range z.Infos() {
		next[i.Origin] = s.policies.read(z, i.Origin)
	}
	s.policies = next
	s.mu.Unlock()
	s.journal.Publish(z, func(origin string) bool { return len(next[origin].allow) > 0 })
}

// Served tells that what Publish was told of is served: a secondary that hears of it finds it.
func (s *Service) Served(z *zone.Zones) {
	s.publish.Lock()
	defer s.publish.Unlock()
	targets := map[string][]netip.AddrPort{}
	keys := map[string]string{}
	s.mu.Lock()
	for _, i := range z.Infos() {
		if p := s.policies[i.Origin]; i.Transferable && len(p.notify) > 0 {
			targets[i.Origin], keys[i.Origin] = p.notify, p.key
		}
	}
	s.mu.Unlock()
	s.notify.follow(z, targets, keys)
}

// Run tells secondaries of changes until ctx ends, and returns nil then.
func (s *Service) Run(ctx context.Context) error {
	if s.cfg.Peers != nil {
		s.cfg.Peers.Handle(callTells, serveTells)
		defer s.cfg.Peers.Handle(callTells, nil)
	}
	s.notify.run(ctx)
	return nil
}

// Collectors returns the metrics, to be registered once.
func (s *Service) Collectors() []prometheus.Collector { return s.metrics.collectors() }

// request is a message that dnsd hands over.
type request struct {
	// Msg is the message. It is not changed.
	Msg *dns.Msg
	// Status is what checking its signature with the Service came to; nil without one.
	Status error
	// From is who sent it.
	From netip.AddrPort
	// UDP tells that an answer has to fit into one datagram.
	UDP bool
	// Plain makes the answer that the same message would get without a signature.
	Plain func() *dns.Msg
	// Send sends one message in wire form. An error ends the transfer.
	Send func(msg []byte) error
	// Cut ends the connection, after a transfer that broke off: what was sent is half an answer. Not called with UDP.
	Cut func()
}

// Generate implements dns.TsigProvider.
func (s *Service) Generate(msg []byte, t *dns.TSIG) ([]byte, error) {
	if k := s.cfg.Keys.find(dns.CanonicalName(t.Hdr.Name)); k != nil {
		return k.Generate(msg, t)
	}
	return nil, dns.ErrSecret
}

// Verify implements dns.TsigProvider.
func (s *Service) Verify(msg []byte, t *dns.TSIG) error {
	if k := s.cfg.Keys.find(dns.CanonicalName(t.Hdr.Name)); k != nil {
		return k.Verify(msg, t)
	}
	return dns.ErrSecret
}

// Serve implements dnsd.Transfers: it answers AXFR and IXFR, and signs the answers to what is signed. It blocks until all was
// sent.
func (s *Service) Serve(w dns.ResponseWriter, req *dns.Msg, plain func() *dns.Msg) {
	r := request{Msg: req, Status: w.TsigStatus(), Plain: plain, Cut: func() { _ = w.Close() }} // it breaks off in any case
	switch a := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		r.From, r.UDP = a.AddrPort(), true
	case *net.TCPAddr:
		r.From = a.AddrPort()
	}
	r.Send = func(msg []byte) error {
		_, err := w.Write(msg)
		return err
	}
	s.serve(r)
}

func (s *Service) serve(r request) {
	sign, wrong, err := verify(r.Msg, r.Status, s.cfg.Keys.find)
	if err != nil {
		s.one(r, &signer{}, failure(r.Msg, dns.RcodeFormatError))
		return
	}
	origin, what := asked(r.Msg)
	if wrong != "" { // RFC 8945 section 5.2: NOTAUTH, with the reason in the TSIG
		s.refuse(r, origin, wrong)
		s.one(r, sign, failure(r.Msg, dns.RcodeNotAuth))
		return
	}
	switch what {
	case dns.TypeAXFR, dns.TypeIXFR:
		s.transfer(r, sign, origin, what)
	default:
		s.one(r, sign, r.Plain())
	}
}

// asked is the zone and type of a question in class IN; the type is none for other messages.
func asked(m *dns.Msg) (origin string, what uint16) {
	if m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 || m.Question[0].Qclass != dns.ClassINET {
		return "", dns.TypeNone
	}
	return dns.CanonicalName(m.Question[0].Name), m.Question[0].Qtype
}

func failure(req *dns.Msg, rcode int) *dns.Msg {
	m := reply(req)
	m.Authoritative = false
	m.Rcode = rcode
	return m
}

// limitOf is the most bytes that an answer over UDP may have.
func limitOf(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return min(max(minUDPSize, int(opt.UDPSize())), udpSize)
	}
	return minUDPSize
}

// mostSignature is how many bytes a signature adds at most: the names of a key and of an algorithm, a MAC, and the rest.
const mostSignature = 512

// one sends an answer of one message; what does not fit into a datagram is cut and said to be so. Over TCP a part is sent of
// what does not fit even there with its signature, as it is without one.
func (s *Service) one(r request, sign *signer, m *dns.Msg) {
	if !r.UDP && sign.key != nil {
		was := m.Truncated
		m.Truncate(dns.MaxMsgSize - mostSignature)
		m.Truncated = was
	}
	first := *sign
	out, err := sign.pack(m)
	if err == nil && r.UDP && len(out) > limitOf(r.Msg) {
		m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT })
		m.Answer, m.Ns, m.Truncated = nil, nil, true
		*sign = first
		out, err = sign.pack(m)
	}
	if err != nil {
		s.log.Error("dns answer cannot be signed", slog.Any("err", err))
		return
	}
	if err := r.Send(out); err != nil {
		s.log.Debug("dns answer not sent", slog.String("to", r.From.String()), slog.Any("err", err))
	}
}

// transfer answers AXFR and IXFR.
func (s *Service) transfer(r request, sign *signer, origin string, what uint16) {
	signed := ""
	if sign.key != nil {
		signed = sign.key.name
	}
	z, no := s.mayHave(r, origin, signed)
	if no == "" && r.UDP && what == dns.TypeAXFR {
		no = ruleUDP
	}
	if no == "" {
		done, ok := s.enter(r.From.Addr())
		if !ok {
			no = ruleBusy
		} else {
			defer done()
		}
	}
	if no != "" {
		s.refuse(r, origin, no)
		m := failure(r.Msg, dns.RcodeRefused)
		if opt := m.IsEdns0(); opt != nil { // RFC 8914: the operator of the secondary reads why in its log
			opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeProhibited, ExtraText: says[no]})
		}
		s.one(r, sign, m)
		return
	}
	if what == dns.TypeAXFR {
		s.send(r, sign, origin, kindFull, "asked", fullZone(z, origin))
		return
	}
	has := heldBy(r.Msg, origin)
	if has == nil {
		s.one(r, sign, failure(r.Msg, dns.RcodeFormatError)) // RFC 1995 section 3
		return
	}
	s.incremental(r, sign, origin, has)
}

// heldBy is the SOA of what a secondary has, in the authority section of its question.
func heldBy(m *dns.Msg, origin string) *dns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && strings.EqualFold(soa.Hdr.Name, origin) {
			return soa
		}
	}
	return nil
}

// incremental answers IXFR.
func (s *Service) incremental(r request, sign *signer, origin string, has *dns.SOA) {
	z, steps, o := s.journal.since(origin, has)
	soa := z.SOA(origin)
	if soa == nil { // it went between the question and now
		s.one(r, sign, failure(r.Msg, dns.RcodeRefused))
		return
	}
	if o == upToDate {
		s.send(r, sign, origin, kindCurrent, string(o), slices.Values([]dns.RR{soa}))
		return
	}
	kind, records := kindFull, fullZone(z, origin)
	if o == difference {
		info, _ := z.Info(origin)
		if removed, added := condense(steps); len(removed)+len(added) < info.Records {
			kind, records = kindDifference, slices.Values(incremental(steps[0].from, soa, removed, added))
		} else {
			o = "large"
		}
	}
	if r.UDP {
		if kind == kindDifference && s.datagram(r, sign, origin, records) {
			return
		}
		// RFC 1995 section 2: the SOA alone says that there is something newer, to be had over TCP.
		kind, o, records = kindTCP, "udp", slices.Values([]dns.RR{soa})
	}
	s.send(r, sign, origin, kind, string(o), records)
}

// datagram sends a difference over UDP if it fits.
func (s *Service) datagram(r request, sign *signer, origin string, records iter.Seq[dns.RR]) bool {
	m, size, limit := reply(r.Msg), 0, limitOf(r.Msg)
	for rr := range records {
		m.Answer = append(m.Answer, rr)
		if size += dns.Len(rr); size > 4*limit { // compression does not save so much
			return false
		}
	}
	try := *sign
	out, err := try.pack(m)
	if err != nil || len(out) > limit {
		return false
	}
	s.metrics.sent(origin, kindDifference, len(m.Answer), 0)
	s.log.Info("zone transferred", slog.String("zone", origin), slog.String("to", r.From.String()), slog.String("kind", string(kindDifference)),
		slog.Uint64("serial", uint64(m.Answer[0].(*dns.SOA).Serial)), slog.Int("records", len(m.Answer)), slog.String("proto", "udp"))
	if err := r.Send(out); err != nil {
		s.log.Debug("dns answer not sent", slog.String("to", r.From.String()), slog.Any("err", err))
	}
	return true
}

// kind is what an answer to AXFR or IXFR was, as logs and metrics name it.
type kind string

const (
	kindFull       kind = "full"       // the whole zone
	kindDifference kind = "difference" // from what the asker has
	kindCurrent    kind = "current"    // the SOA: the asker has it all
	kindTCP        kind = "use-tcp"    // the SOA: the difference does not fit into a datagram
)

// send sends the records of a transfer.
func (s *Service) send(r request, sign *signer, origin string, k kind, why string, records iter.Seq[dns.RR]) {
	begin, bytes, count, serial := time.Now(), 0, 0, uint32(0)
	var err error
	for m := range messages(r.Msg, records) {
		var out []byte
		if out, err = sign.pack(m); err != nil {
			break
		}
		if err = r.Send(out); err != nil {
			break
		}
		if soa, ok := m.Answer[0].(*dns.SOA); ok && count == 0 {
			serial = soa.Serial
		}
		bytes, count = bytes+len(out), count+len(m.Answer)
		if took := time.Since(begin); took > s.cfg.Patience && float64(bytes) < took.Seconds()*float64(s.cfg.Slow) {
			err = errSlow
			break
		}
	}
	log := s.log.With(slog.String("zone", origin), slog.String("to", r.From.String()), slog.String("kind", string(k)), slog.String("why", why),
		slog.Uint64("serial", uint64(serial)), slog.Int("records", count), slog.Int("bytes", bytes), slog.Duration("took", time.Since(begin)))
	if err != nil {
		s.metrics.broken(origin)
		log.Warn("zone transfer broke off", slog.Any("err", err))
		if !r.UDP && r.Cut != nil {
			r.Cut()
		}
		return
	}
	s.metrics.sent(origin, k, count, time.Since(begin))
	if k == kindFull || k == kindDifference {
		log.Info("zone transferred")
	} else {
		log.Debug("zone transfer not needed")
	}
}

// mayHave judges by the policy of the zone.
func (s *Service) mayHave(r request, origin, signed string) (*zone.Zones, rule) {
	z := s.journal.Zones()
	if z == nil {
		return nil, ruleNotYet
	}
	s.mu.Lock()
	p := s.policies[origin]
	s.mu.Unlock()
	return z, judge(z, origin, p, r.From.Addr(), signed)
}

// enter takes a place for a transfer; done gives it back.
func (s *Service) enter(from netip.Addr) (done func(), ok bool) {
	from = from.Unmap()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.cfg.MaxTransfers || s.running[from] >= max(1, s.cfg.MaxTransfers/4) {
		return nil, false
	}
	s.all++
	s.running[from]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.running[from]--; s.running[from] == 0 {
			delete(s.running, from)
		}
	}, true
}

// underWay is how many transfers run.
func (s *Service) underWay() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

func (s *Service) refuse(r request, origin string, why rule) {
	s.metrics.refused.WithLabelValues(string(why)).Inc()
	name := "none"
	if t := r.Msg.IsTsig(); t != nil {
		name = t.Hdr.Name
	}
	s.refused.tell(origin, r.From.Addr(), name, why)
}
