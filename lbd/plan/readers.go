package plan

import (
	"fmt"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh/report"
)

// hasReaders reports whether the section MySQL of a tag has an address for readers.
func hasReaders(doc hostdb.Document) bool {
	at := doc.At("MySQL", "ReadVIP")
	return at.Exists() && !at.IsNull()
}

// readReaders makes the service of those who read a database: connections to ReadVIP are divided among its replicas. It leaves the
// problem that refuses it, if there is one, in d.
func (d *draft) readReaders(p *Planner, doc hostdb.Document) {
	d.readers = true
	my, problems := section.MySQLOf(doc)
	refuse := func(name ProblemName, format string, args ...any) {
		if d.refused == nil {
			d.refused = &Problem{Name: name, Tag: d.tag, Text: fmt.Sprintf(format, args...)}
		}
	}
	for _, pr := range problems {
		if pr.Severity == section.Error {
			refuse(BadSection, "tags/%s: %s", d.tag, pr)
		}
	}
	if my == nil || !my.ReadVIP.IsValid() {
		refuse(BadSection, "tags/%s: MySQL/ReadVIP is not an address", d.tag)
		return
	}
	d.service = Service{
		Tag: d.tag, VIP: my.ReadVIP.Unmap(), Mode: section.NAT,
		Balance: section.RoundRobin, // clients are few hosts with pools: by source, each would read at one replica
		Ports:   []Forward{{my.Port, section.TCP, my.Port}},
		Check:   section.Probe{Type: "mysql", Interval: 2 * time.Second, Rise: 2, Fall: 3},
		// A replica answers the holder, as a rule, and not by way of it: so clients look like the holder to it.
		Masquerade: true,
		Drain:      30 * time.Second, // what a query may last that was begun before its replica fell behind
	}
	d.watched = append(d.watched, watchServers(d.tag))
	if d.refused == nil {
		d.place(p, "MySQL/ReadVIP", refuse)
	}
}

// what is where the VIP of the tag is said.
func (d *draft) what() string {
	if d.readers {
		return "MySQL/ReadVIP"
	}
	return "LB/VIP"
}

func watchServers(tag string) string { return "mysql/" + tag }

// reads says why a member does not answer readers; "" = it does, or nobody says otherwise. The primary does while no replica is known to.
func (p *Planner) reads(d *draft, host string) (Cause, string) {
	own, known := p.server(d.tag, host)
	switch {
	case !known:
		return "", ""
	case own.Role == "primary":
		for i := range d.members {
			m := &d.members[i]
			if other, ok := p.server(d.tag, m.host); ok && m.host != host && m.exists && m.status == section.Active && other.Role == "replica" && other.Reads {
				return Primary, "it is the primary, and there are replicas that read"
			}
		}
		return "", ""
	case own.Reads:
		return "", ""
	}
	why := "its database does not answer readers"
	if own.Reason != "" {
		why += ": " + strings.TrimSpace(own.Reason)
	}
	return Behind, why
}

// server is the database server of a member by its own agent's account.
func (p *Planner) server(tag, host string) (report.MySQL, bool) {
	node, ok := p.seen.ByName(host)
	if !ok {
		return report.MySQL{}, false
	}
	r, _ := p.seen.Report(node.ID)
	my, ok := r.MySQL[tag]
	return my, ok
}
