package zonefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// Plan is what to write so that the zone of a file is served.
type Plan struct {
	// Zone is its name, without the final dot.
	Zone string
	// Tag is the tag that makes the zone, and Section its section DNS.
	Tag     string
	Section hostdb.Document
	// Hosts are those to make, by key.
	Hosts map[string]hostdb.Document
	// Known are hosts that are there with what the file says of them.
	Known []string
	// Names is how many names have records in the section.
	Names int
	// Problems are what is not taken, or not quite, and why: at most maxProblems, and then one that says how many more.
	Problems []string
}

// planner makes a Plan.
type planner struct {
	Plan
	view    hostdb.View
	file    *File
	ttl     uint32
	sets    map[string][]dns.RR // by owner
	owners  []string            // sorted
	cuts    map[string]bool     // names below the zone with NS
	hosts   map[string]*newHost // to make, by name with final dot
	known   map[string]bool     // keys of known hosts
	records map[string]map[string]any
	more    int // problems beyond maxProblems
}

type newHost struct {
	ip, ip6 string
	aliases []string
}

// Make decides what becomes of a file in a HostDB. tag is the tag to make; empty: it is called as the zone. Errors wrap
// hostdb's sentinels.
//
//   - A name with at most one A and one AAAA, that can be a host's and has the zone's time to live, is a host. One that is
//     there with the same addresses becomes a member of the tag.
//   - A CNAME to a host that is made is its Network/cname.
//   - A PTR to a host that is there, with that address, follows from Reverse and membership.
//   - All else stands in Records of the tag.
//
// The zone's time to live is the one that most of its records have.
func Make(view hostdb.View, f *File, tag string) (*Plan, error) {
	zone := strings.TrimSuffix(f.Origin, ".")
	if tag == "" {
		tag = zone
	}
	if err := hostdb.CheckName(tag); err != nil {
		return nil, fmt.Errorf("tag: %w", err)
	}
	for key := range view.Keys(hostdb.Tags) {
		doc := view.Data(hostdb.Tags, key).At("DNS")
		switch {
		case !doc.Exists() || doc.IsNull():
		case key == tag:
			return nil, fmt.Errorf("tag %s has a section DNS already: take it out, or name another tag with --tag: %w", key, hostdb.ErrExists)
		case hostdb.NormalName(doc.Text("Zone")) == zone:
			return nil, fmt.Errorf("tag %s makes the zone %s already: take that out, or export it first (hostmesh dns zone): %w", key, zone, hostdb.ErrExists)
		}
	}
	p := &planner{
		Plan: Plan{Zone: zone, Tag: tag, Hosts: map[string]hostdb.Document{}, Problems: slices.Clone(f.Problems)},
		view: view, file: f, sets: map[string][]dns.RR{}, cuts: map[string]bool{}, hosts: map[string]*newHost{}, known: map[string]bool{},
		records: map[string]map[string]any{}, more: f.MoreProblems,
	}
	p.sort()
	p.addresses()
	p.aliases()
	reverse := p.pointers()
	p.rest()
	return p.finish(reverse)
}

func (p *planner) problem(rr dns.RR, format string, args ...any) {
	if p.room() {
		p.Problems = append(p.Problems, shown(rr)+": "+fmt.Sprintf(format, args...))
	}
}

// note is problem for what is no record of the file.
func (p *planner) note(format string, args ...any) {
	if p.room() {
		p.Problems = append(p.Problems, fmt.Sprintf(format, args...))
	}
}

// room reports whether there is room for a problem, and counts one that there is none for.
func (p *planner) room() bool {
	if len(p.Problems) < maxProblems {
		return true
	}
	p.more++
	return false
}

// sort puts records under their names, and finds the zone's time to live and its delegations.
func (p *planner) sort() {
	count := map[uint32]int{}
	for _, rr := range p.file.Records {
		h := rr.Header()
		switch {
		case !within(h.Name, p.file.Origin):
			p.problem(rr, "the name lies outside the zone %s", p.Zone)
			continue
		case strings.Contains(h.Name, `\`) || strings.Contains(h.Name, "/"):
			p.problem(rr, "the name has letters that a section cannot name")
			continue
		}
		if h.Rrtype == dns.TypeNS && h.Name != p.file.Origin {
			p.cuts[h.Name] = true
		}
		count[h.Ttl]++
		p.sets[h.Name] = append(p.sets[h.Name], rr)
	}
	p.owners = slices.Sorted(maps.Keys(p.sets))
	p.ttl = 30
	most := 0
	for _, ttl := range slices.Sorted(maps.Keys(count)) {
		if count[ttl] > most {
			p.ttl, most = ttl, count[ttl]
		}
	}
}

// belowCut reports whether another server answers for a name, so that what stands here is glue.
func (p *planner) belowCut(name string) bool {
	for more := len(p.cuts) > 0; more && name != p.file.Origin; {
		if p.cuts[name] {
			return true
		}
		_, name, more = strings.Cut(name, ".") // sort let no name through that has a dot within a label
	}
	return false
}

// take removes records from those that are left.
func (p *planner) take(name string, gone func(dns.RR) bool) {
	p.sets[name] = slices.DeleteFunc(p.sets[name], gone)
}

func isAddress(rr dns.RR) bool {
	return rr.Header().Rrtype == dns.TypeA || rr.Header().Rrtype == dns.TypeAAAA
}

// addresses finds the hosts.
func (p *planner) addresses() {
	for _, name := range p.owners {
		ip, ip6, ok := p.hostAddresses(name)
		if !ok {
			continue
		}
		key := strings.TrimSuffix(name, ".")
		if there := p.view.HostsByName(key); len(there) > 0 || p.view.Exists(hostdb.Hosts, key) {
			if len(there) == 0 {
				there = []string{key}
			}
			if why := p.differs(there[0], ip, ip6); why != "" || len(there) > 1 {
				p.note("%s: hosts/%s is there and %s; the records of the file stand in the tag", name, there[0], orElse(why, "not alone with that name"))
				continue
			}
			p.known[there[0]] = true
		} else {
			p.hosts[name] = &newHost{ip: ip, ip6: ip6}
		}
		p.take(name, isAddress)
	}
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// hostAddresses are the addresses under a name, if they can be a host's.
func (p *planner) hostAddresses(name string) (ip, ip6 string, ok bool) {
	if name == p.file.Origin || p.belowCut(name) || !hostLabels(strings.TrimSuffix(name, ".")) {
		return "", "", false
	}
	for _, rr := range p.sets[name] {
		if isAddress(rr) && rr.Header().Ttl != p.ttl {
			return "", "", false
		}
		switch rr := rr.(type) {
		case *dns.A:
			if ip != "" || rr.A.IsUnspecified() {
				return "", "", false
			}
			ip = rr.A.String()
		case *dns.AAAA:
			a, valid := netip.AddrFromSlice(rr.AAAA)
			if ip6 != "" || !valid || a.Is4In6() || a.IsUnspecified() {
				return "", "", false
			}
			ip6 = a.String()
		case *dns.CNAME:
			return "", "", false
		}
	}
	return ip, ip6, ip != "" || ip6 != ""
}

// hostLabels reports whether text can be the name of a host (RFC 1123 section 2.1).
func hostLabels(text string) bool {
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') }) {
			return false
		}
	}
	return true
}

// differs says how a host that is there is not what the file says; empty: it would make the same records.
func (p *planner) differs(key, ip, ip6 string) string {
	doc := p.view.Data(hostdb.Hosts, key).At("Network")
	if got := doc.Text("IP"); got != ip {
		return "has the address " + orElse(got, "none")
	}
	if got := doc.Text("IPv6"); hostdb.NormalAddr(got) != hostdb.NormalAddr(ip6) {
		return "has the IPv6 address " + orElse(got, "none")
	}
	if doc.At("cname").Exists() && doc.Text("cname") != "" || doc.At("cname").Items() != nil {
		return "has aliases of its own"
	}
	return ""
}

// aliases gives CNAMEs to the hosts that they lead to.
func (p *planner) aliases() {
	for _, name := range p.owners {
		set := p.sets[name]
		if len(set) != 1 || name == p.file.Origin || p.belowCut(name) || !hostLabels(strings.TrimSuffix(name, ".")) {
			continue
		}
		c, is := set[0].(*dns.CNAME)
		if !is || c.Hdr.Ttl != p.ttl || p.hosts[c.Target] == nil {
			continue
		}
		h := p.hosts[c.Target]
		h.aliases = append(h.aliases, strings.TrimSuffix(name, "."))
		p.take(name, func(dns.RR) bool { return true })
	}
}

// pointers gives PTRs to the hosts that are there, and returns the network of the zone if there are any.
func (p *planner) pointers() (network netip.Prefix) {
	net, ok := networkOf(p.Zone)
	if !ok {
		return netip.Prefix{}
	}
	candidates := map[string][]string{} // key of a host -> owners of its PTR
	for _, name := range p.owners {
		set := p.sets[name]
		if len(set) != 1 {
			continue
		}
		ptr, is := set[0].(*dns.PTR)
		if !is || ptr.Hdr.Ttl != p.ttl {
			continue
		}
		there := p.view.HostsByName(strings.TrimSuffix(ptr.Ptr, "."))
		if len(there) == 1 {
			candidates[there[0]] = append(candidates[there[0]], name)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(candidates)) {
		owners := candidates[key]
		doc := p.view.Data(hostdb.Hosts, key).At("Network")
		var want []string // what Reverse would make
		for _, field := range []string{"IP", "IPv6"} {
			if a, err := netip.ParseAddr(doc.Text(field)); err == nil && net.Contains(a) {
				owner, _ := dns.ReverseAddr(a.String()) // it is an address
				want = append(want, owner)
			}
		}
		slices.Sort(want)
		slices.Sort(owners)
		if len(want) == 0 || !slices.Equal(want, owners) {
			continue
		}
		p.known[key] = true
		network = net
		for _, o := range owners {
			p.take(o, func(dns.RR) bool { return true })
		}
	}
	return network
}

// networkOf is the network whose reverse zone has that name.
func networkOf(zone string) (netip.Prefix, bool) {
	if rest, ok := strings.CutSuffix(zone, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		if len(labels) > 4 {
			return netip.Prefix{}, false
		}
		var b [4]byte
		for i, l := range labels {
			n, err := strconv.ParseUint(l, 10, 8)
			if err != nil || strconv.FormatUint(n, 10) != l {
				return netip.Prefix{}, false
			}
			b[len(labels)-1-i] = byte(n)
		}
		return netip.PrefixFrom(netip.AddrFrom4(b), 8*len(labels)), true
	}
	if rest, ok := strings.CutSuffix(zone, ".ip6.arpa"); ok {
		labels := strings.Split(rest, ".")
		if len(labels) > 32 {
			return netip.Prefix{}, false
		}
		var b [16]byte
		for i, l := range labels {
			n, err := strconv.ParseUint(l, 16, 4)
			if err != nil || len(l) != 1 {
				return netip.Prefix{}, false
			}
			at := len(labels) - 1 - i
			b[at/2] |= byte(n) << (4 * (1 - at%2))
		}
		return netip.PrefixFrom(netip.AddrFrom16(b), 4*len(labels)), true
	}
	return netip.Prefix{}, false
}

// rest puts what is left into records of the section.
func (p *planner) rest() {
	for _, name := range p.owners {
		set := p.sets[name]
		if len(set) == 0 {
			continue
		}
		types := map[string]any{}
		values := map[string][]string{}
		count := map[uint32]int{}
		for _, rr := range set {
			h := rr.Header()
			typ := dns.TypeToString[h.Rrtype]
			if typ == "" || strings.HasPrefix(typ, "TYPE") {
				p.problem(rr, "the type is not known")
				continue
			}
			values[typ] = append(values[typ], data(rr))
			if !(name == p.file.Origin && h.Rrtype == dns.TypeNS) { // these have the zone's own
				count[h.Ttl]++
			}
		}
		ttl, most := p.ttl, 0
		for _, t := range slices.Sorted(maps.Keys(count)) {
			if count[t] > most {
				ttl, most = t, count[t]
			}
		}
		for _, rr := range set {
			want := ttl
			if name == p.file.Origin && rr.Header().Rrtype == dns.TypeNS {
				want = p.ttl
			}
			if rr.Header().Ttl != want && len(values) > 0 {
				p.problem(rr, "its time to live becomes %d: a name has one for all its records", want)
			}
		}
		for typ, list := range values {
			if len(list) == 1 {
				types[typ] = list[0]
			} else {
				types[typ] = list
			}
		}
		if len(types) == 0 {
			continue
		}
		if ttl != p.ttl {
			types["TTL"] = ttl
		}
		p.records[p.relative(name)] = types
	}
}

// relative is a name as a key of Records.
func (p *planner) relative(name string) string {
	if name == p.file.Origin {
		return "@"
	}
	rel := strings.TrimSuffix(name, "."+p.file.Origin)
	if rel == p.Zone || strings.HasSuffix(rel, "."+p.Zone) {
		return name // it would be taken for one that ends in the zone's own name
	}
	return rel
}

// finish makes the documents. What a section would not take is left out and told.
func (p *planner) finish(reverse netip.Prefix) (*Plan, error) {
	for name, h := range p.hosts {
		network := map[string]any{}
		if h.ip != "" {
			network["IP"] = h.ip
		}
		if h.ip6 != "" {
			network["IPv6"] = h.ip6
		}
		if len(h.aliases) > 0 {
			slices.Sort(h.aliases)
			network["cname"] = h.aliases
		}
		doc, err := document(map[string]any{"Network": network})
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", name, err)
		}
		p.Hosts[strings.TrimSuffix(name, ".")] = doc
	}
	p.Known = slices.Sorted(maps.Keys(p.known))
	dnsSection := map[string]any{"Zone": p.Zone, "TTL": p.ttl}
	if reverse.IsValid() {
		dnsSection["Reverse"] = []string{reverse.String()}
	}
	if soa := p.file.SOA; soa != nil {
		dnsSection["SOA"] = map[string]any{"MName": soa.Ns, "RName": soa.Mbox, "Refresh": soa.Refresh, "Retry": soa.Retry, "Expire": soa.Expire, "Minimum": soa.Minttl}
	}
	for {
		if len(p.records) > 0 {
			dnsSection["Records"] = p.records
		} else {
			delete(dnsSection, "Records")
		}
		doc, err := document(map[string]any{"DNS": dnsSection})
		if err != nil {
			return nil, fmt.Errorf("section of tag %s: %w", p.Tag, err)
		}
		_, problems := section.TagOf(doc)
		if !p.leaveOut(problems, dnsSection) {
			p.Section, p.Names = doc.At("DNS"), len(p.records)
			slices.Sort(p.Problems)
			if p.more > 0 {
				p.Problems = append(p.Problems, fmt.Sprintf("%d more are not listed", p.more))
			}
			return &p.Plan, nil
		}
	}
}

// leaveOut takes out what a section has problems with, and reports whether there was anything.
func (p *planner) leaveOut(problems []section.Problem, dnsSection map[string]any) bool {
	out := false
	for _, x := range problems {
		if x.Severity != section.Error {
			continue
		}
		keys := x.Path.Segments()
		switch {
		case len(keys) >= 4 && keys[1] == "Records" && p.records[keys[2]][keys[3]] != nil:
			types := p.records[keys[2]]
			p.note("%s %s %.300v: %s", keys[2], keys[3], types[keys[3]], x.Reason)
			if delete(types, keys[3]); len(types) == 0 {
				delete(p.records, keys[2])
			}
			out = true
		case len(keys) >= 3 && keys[1] == "Records" && p.records[keys[2]] != nil:
			p.note("%s: %s", keys[2], x.Reason)
			delete(p.records, keys[2])
			out = true
		case len(keys) >= 2 && keys[1] == "SOA" && dnsSection["SOA"] != nil:
			soa := dnsSection["SOA"].(map[string]any)
			if len(keys) == 2 || soa[keys[2]] == nil { // the default does not go with the rest
				p.note("SOA: %s; the defaults are taken", x)
				delete(dnsSection, "SOA")
			} else {
				p.note("SOA: %s; the default is taken", x)
				delete(soa, keys[2])
			}
			out = true
		}
	}
	return out
}

// document makes a document of plain values.
func document(v map[string]any) (hostdb.Document, error) {
	text, err := json.Marshal(v) // JSON is YAML
	if err != nil {
		return hostdb.Document{}, err
	}
	return hostdb.ParseDocument(text)
}

// Write writes the plan. All of it is one revision.
func (p *Plan) Write(tx *hostdb.Tx) error {
	for _, key := range slices.Sorted(maps.Keys(p.Hosts)) {
		if tx.Exists(hostdb.Hosts, key) {
			return fmt.Errorf("host %s was made meanwhile: import again: %w", key, hostdb.ErrExists)
		}
		if err := tx.Put(hostdb.Hosts, key, p.Hosts[key]); err != nil {
			return err
		}
	}
	doc := tx.View().Data(hostdb.Tags, p.Tag)
	if !doc.Exists() || !doc.IsMapping() {
		if doc.Exists() && !doc.IsNull() {
			return fmt.Errorf("tag %s has data that is no mapping: name another with --tag: %w", p.Tag, hostdb.ErrNotMapping)
		}
		var err error
		if doc, err = document(map[string]any{}); err != nil {
			return err
		}
	}
	doc, err := doc.With(hostdb.PathOf("DNS"), p.Section)
	if err != nil {
		return err
	}
	if err := tx.Put(hostdb.Tags, p.Tag, doc); err != nil {
		return err
	}
	members := tx.View().DirectMembers(hostdb.Tags, p.Tag)
	has := map[string]bool{}
	for _, m := range members {
		has[m.Name] = true
	}
	before := len(members)
	for _, key := range slices.Concat(slices.Sorted(maps.Keys(p.Hosts)), p.Known) {
		if !has[key] {
			members = append(members, hostdb.Member{Name: key})
		}
	}
	if len(members) == before {
		return nil
	}
	return tx.SetMembers(hostdb.Tags, p.Tag, members)
}
