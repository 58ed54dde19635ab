package plan

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// Explanation says why a host is, or is not, behind the VIP of a tag.
type Explanation struct {
	Tag  string `json:"tag"`
	Host string `json:"host"`
	// State is "" where it is no backend.
	State State `json:"state,omitempty"`
	// Lines are for people: the host first, then the service, then what is wrong with it.
	Lines []string `json:"lines"`
}

// Explain says it of the last Plan.
func (p *Planner) Explain(tag, host string) Explanation {
	e := Explanation{Tag: tag, Host: host}
	say := func(format string, args ...any) { e.Lines = append(e.Lines, fmt.Sprintf(format, args...)) }
	d, s := p.drafts[tag], p.services[tag]
	switch {
	case d == nil && !p.db.Exists(hostdb.Tags, tag):
		say("there is no tags/%s", tag)
		return e
	case d == nil:
		say("tags/%s is not balanced: it has no section LB", tag)
		return e
	}
	if s != nil {
		for i := range s.Backends {
			b := &s.Backends[i]
			if b.Host != host {
				continue
			}
			if e.State == "" || b.State == In {
				e.State = b.State
			}
			line := fmt.Sprintf("%s at %s is %s", host, b.Addr, b.State)
			if b.Why != "" {
				line += ": " + b.Why
			}
			if b.State == Draining {
				line += "; connections that are there may go on until " + s.ends(b).UTC().Format("2006-01-02 15:04:05 UTC")
			}
			if b.State == In && b.Why == "" {
				line += ": it is a member, nobody takes it out, and nothing that was observed is against it"
			}
			say("%s", line)
		}
	}
	if e.State == "" {
		say("%s is no backend: %s", host, p.notBackend(d, s, host))
	}
	if s != nil {
		ports := make([]string, len(s.Ports))
		for i, f := range s.Ports {
			ports[i] = fmt.Sprintf("%d/%s", f.Port, f.Proto)
		}
		say("tags/%s: VIP %s, ports %s, mode %s; %d in, %d draining, %d out; of HostDB %s", tag, s.VIP, strings.Join(ports, " "), s.Mode,
			s.Count(In), s.Count(Draining), s.Count(Out), s.Version)
	}
	for _, pr := range p.problems[tag] {
		if pr.Host == "" || pr.Host == host {
			say("%s: %s", pr.Name, pr.Text)
		}
	}
	return e
}

func (p *Planner) notBackend(d *draft, s *Service, host string) string {
	m := d.member(host)
	switch {
	case m == nil && !p.db.Exists(hostdb.Hosts, host):
		return fmt.Sprintf("there is no hosts/%s", host)
	case m == nil:
		return fmt.Sprintf("it is no member of tags/%s (hostmesh tag add %s %s)", d.tag, host, d.tag)
	case !m.exists:
		return fmt.Sprintf("tags/%s names it, and there is no hosts/%s", d.tag, host)
	case m.status == section.Retired:
		return "its Status is retired"
	case s == nil:
		return fmt.Sprintf("tags/%s is not balanced", d.tag)
	case !m.addr(s.VIP).IsValid():
		return fmt.Sprintf("it has no address of the family of VIP %s (Network/IP, Network/IPv6)", s.VIP)
	}
	if m.addr(s.VIP) == s.VIP {
		return fmt.Sprintf("its address is the VIP %s itself", s.VIP)
	}
	if i := slices.IndexFunc(s.Backends, func(b Backend) bool { return b.Addr == m.addr(s.VIP) }); i >= 0 {
		return fmt.Sprintf("its address %s is that of hosts/%s", m.addr(s.VIP), s.Backends[i].Host)
	}
	return "it was not planned yet"
}
