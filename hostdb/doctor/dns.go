package doctor

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func dnsChecks() []Check {
	return []Check{
		{"dns-none", "hosts in use that are in no zone", hostsWithoutZone},
		{"dns-names", "names that DNS cannot have, and so leaves out", badNames},
		{"dns-targets", "aliases and records that point to nothing", targets},
		{"dns-zones", "zones that several tags make", sharedZones},
		{"dns-transfer", "secondaries that cannot have the zone they shall have", transfers},
	}
}

// name is what DNS calls a host: its FQDN, else its key.
func (h *host) name() string {
	if h.facts.Network.FQDN != "" {
		return hostdb.NormalName(h.facts.Network.FQDN)
	}
	return hostdb.NormalName(h.key)
}

// deepest is the deepest of our zones that a name is in; empty for none.
func (e *exam) deepest(name string) string {
	for at := name; ; {
		if _, ours := e.zones[at]; ours {
			return at
		}
		_, rest, ok := strings.Cut(at, ".")
		if !ok {
			return ""
		}
		at = rest
	}
}

// served are the full names under which a host stands in the zones that its tags feed.
func (e *exam) served(h *host, name string) []string {
	var out []string
	for _, full := range h.fullNames(name) {
		zone := e.deepest(full)
		if zone != "" && slices.ContainsFunc(h.feeders, func(t *tag) bool { return t.zone == zone }) {
			out = append(out, full)
		}
	}
	return out
}

func hostsWithoutZone(e *exam) {
	if len(e.zones) == 0 {
		n := 0
		e.inUse(func(*host) { n++ })
		if n > 0 && !e.over() {
			e.add(Finding{Severity: section.Warning, ID: "hostdb",
				Message: fmt.Sprintf("no tag has a section DNS with a Zone, so none of %s has a name in DNS", count(n, "host", "hosts")),
				Remedy:  "give a tag that has them as members a section such as DNS: {Zone: dc1.example.com}"})
		}
		return
	}
	e.inUse(func(h *host) {
		if len(e.served(h, h.name())) > 0 {
			return
		}
		f := Finding{Severity: section.Warning, ID: h.id(), Remedy: "make it a member of a tag with a section DNS (hostmesh tag add " + h.key + " TAG)"}
		zone := e.deepest(h.name())
		switch {
		case zone != "":
			t := e.zones[zone][0]
			f.Message = fmt.Sprintf("%s lies in the zone %s, which none of its tags makes, so DNS does not know it", h.name(), zone)
			f.Remedy = "make it a member of the tag (hostmesh tag add " + h.key + " " + t.key + "), or of one that it has as @member"
			f.Related = []string{t.id()}
		case len(h.feeders) > 0:
			var zones []string
			for _, t := range h.feeders {
				f.Related = append(f.Related, t.id())
				if !slices.Contains(zones, t.zone) {
					zones = append(zones, t.zone)
				}
			}
			f.Message = fmt.Sprintf("%s lies outside %s, the zones of its tags, so DNS does not know it", h.name(), enumerate(zones))
			f.Remedy = "give it a name in the zone (Network/FQDN), or make a zone for the name it has"
		default:
			f.Message = "it is a member of no tag that makes a zone, so DNS does not know it"
		}
		e.add(f)
	})
}

// badLabels says why text is no name of a host in DNS: RFC 1035 section 2.3.1 and RFC 1123 section 2.1 allow letters,
// digits and hyphens, and names of services and tags may have underscores.
func badLabels(text string, underscore bool) string {
	text = strings.TrimSuffix(text, ".")
	if len(text) > 253 {
		return "it is longer than 253 bytes"
	}
	for label := range strings.SplitSeq(text, ".") {
		switch {
		case label == "":
			return "it has an empty label"
		case len(label) > 63:
			return "its label " + label + " is longer than 63 bytes"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "its label " + label + " begins or ends with a hyphen"
		}
		for _, c := range label {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_' && underscore:
			default:
				return fmt.Sprintf("it contains %q", c)
			}
		}
	}
	return ""
}

func badNames(e *exam) {
	e.inUse(func(h *host) {
		if len(h.feeders) == 0 {
			return
		}
		if why := badLabels(h.name(), false); why != "" {
			at := ""
			if h.facts.Network.FQDN != "" {
				at = "Network/FQDN"
			}
			e.add(Finding{Severity: section.Warning, ID: h.id(), Path: at,
				Message: fmt.Sprintf("%q cannot be a host's name in DNS: %s", h.name(), why),
				Remedy:  "write a name of letters, digits and hyphens into Network/FQDN"})
		}
		for _, alias := range h.facts.Network.CNames {
			f := Finding{Severity: section.Warning, ID: h.id(), Path: "Network/cname"}
			full := hostdb.NormalName(alias)
			switch why := badLabels(strings.TrimPrefix(full, "*."), true); {
			case why != "":
				f.Message = fmt.Sprintf("the alias %q cannot be a name in DNS: %s", alias, why)
				f.Remedy = "correct the alias, or take it out"
			case strings.Contains(full, ".") && e.deepest(full) == "":
				f.Message = fmt.Sprintf("the alias %s lies in no zone that is served here", full)
				f.Remedy = "take it out, or make the zone (a tag with a section DNS)"
			case strings.Contains(full, ".") && len(e.served(h, alias)) == 0:
				zone := e.deepest(full)
				f.Message = fmt.Sprintf("the alias %s lies in the zone %s, which none of the host's tags makes", full, zone)
				f.Remedy = "make the host a member of " + e.zones[zone][0].id() + ", or take the alias out"
				f.Related = []string{e.zones[zone][0].id()}
			default:
				continue
			}
			e.add(f)
		}
	})
	e.eachTag(func(t *tag) {
		f := t.facts
		if why := badLabels(t.key, true); why != "" && (f.LB != nil || f.MySQL != nil || f.Service != nil) {
			e.add(Finding{Severity: section.Warning, ID: t.id(),
				Message: fmt.Sprintf("the tag's name cannot stand in DNS: %s; so nobody finds what it serves as %s.tag.%s", why, "NAME", e.opts.Domain),
				Remedy:  "rename the tag: hostmesh db rename tags/" + t.key + " NEWNAME"})
		}
	})
}

func sharedZones(e *exam) {
	for zone, tags := range e.zones {
		if len(tags) > 1 {
			e.add(Finding{Severity: section.Warning, ID: tags[0].id(), Path: "DNS/Zone", Related: related(tags[0], tags[1:]...),
				Message: fmt.Sprintf("%s make the zone %s; SOA and NS are those of %s", count(len(tags), "tag", "tags"), zone, tags[0].id()),
				Remedy:  "let one tag make the zone, with the others as its members (@TAG)"})
		}
	}
}
