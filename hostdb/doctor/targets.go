package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// owners are the names that exist in our zones.
type owners struct {
	*exam
	names     map[string]bool
	wild      map[string]bool // names whose * exists
	delegated map[string]bool
}

func (e *exam) owners() owners {
	o := owners{e, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	add := func(name string) {
		o.names[name] = true
		if above, ok := strings.CutPrefix(name, "*."); ok {
			o.wild[above] = true
		}
	}
	for zone := range e.zones {
		add(zone)
	}
	e.eachTag(func(t *tag) {
		if t.zone == "" {
			return
		}
		for name, set := range t.facts.DNS.Records {
			full, _ := absolute(t.zone, name)
			add(full)
			if len(set.NS) > 0 && full != t.zone {
				o.delegated[full] = true
			}
		}
	})
	for _, h := range e.hosts {
		if !addressed(h) {
			continue
		}
		for _, name := range append([]string{h.name()}, h.facts.Network.CNames...) {
			for _, full := range e.served(h, name) {
				add(full)
			}
		}
	}
	return o
}

// addressed reports whether a host has an address that DNS gives out.
func addressed(h *host) bool { return h.facts.Network.IP.IsValid() || h.facts.Network.IPv6.IsValid() }

// nothing says why a full name is not there; empty when it is, or when that is not for us to say.
func (o owners) nothing(name string) string {
	if why, mesh := o.live(name); mesh {
		return why
	}
	zone := o.deepest(name)
	if zone == "" || o.names[name] {
		return ""
	}
	for at := name; at != zone; {
		if o.delegated[at] {
			return ""
		}
		_, at, _ = strings.Cut(at, ".")
		if o.wild[at] {
			return ""
		}
		if o.names[at] {
			break // a wildcard further up does not reach below a name that is there (RFC 4592)
		}
	}
	for at := name; at != zone; {
		if o.delegated[at] {
			return ""
		}
		_, at, _ = strings.Cut(at, ".")
	}
	why := fmt.Sprintf("nothing has that name in the zone %s", zone)
	if hosts := o.view.HostsByName(name); len(hosts) > 0 {
		why = fmt.Sprintf("%s has that name and is not served in the zone %s", hostdb.Hosts+"/"+hosts[0], zone)
	}
	return why
}

// live looks at names of the domain of the mesh, as far as HostDB decides them.
func (o owners) live(name string) (why string, mesh bool) {
	domain := hostdb.NormalName(o.opts.Domain)
	if !within(name, domain) {
		return "", false
	}
	rest := strings.TrimSuffix(strings.TrimSuffix(name, domain), ".")
	if key, ok := strings.CutSuffix(rest, ".tag"); ok && !strings.HasPrefix(key, "_") {
		if o.tagNamed(key) == nil {
			return hostdb.Tags + "/" + key + " does not exist", true
		}
	}
	if key, ok := strings.CutSuffix(rest, ".vip"); ok {
		switch t := o.tagNamed(key); {
		case t == nil:
			return hostdb.Tags + "/" + key + " does not exist", true
		case t.facts.LB == nil && t.facts.MySQL == nil:
			return t.id() + " has no virtual IP (LB or MySQL)", true
		}
	}
	return "", true
}

// tagNamed is the tag of a name in lower case.
func (o owners) tagNamed(key string) *tag {
	if t := o.byTag[key]; t != nil {
		return t
	}
	i := slices.IndexFunc(o.tags, func(t *tag) bool { return strings.EqualFold(t.key, key) })
	if i < 0 {
		return nil
	}
	return o.tags[i]
}

func targets(e *exam) {
	o := e.owners()
	e.eachTag(func(t *tag) {
		if t.zone == "" {
			return
		}
		point := func(severity section.Severity, target string, at ...string) {
			if target == "" || target == "." {
				return // a null MX or SRV says so on purpose (RFC 7505)
			}
			full, _ := absolute(t.zone, target)
			if why := o.nothing(full); why != "" {
				e.add(Finding{Severity: severity, ID: t.id(), Path: path(at...),
					Message: fmt.Sprintf("it points to %s, which does not exist: %s", full, why),
					Remedy:  "correct the name, or take the record out; a name outside the zone ends in a dot"})
			}
		}
		for _, ns := range t.facts.DNS.NS {
			point(section.Warning, ns, "DNS", "NS")
		}
		for _, name := range slices.Sorted(maps.Keys(t.facts.DNS.Records)) {
			set := t.facts.DNS.Records[name]
			point(section.Error, set.CNAME, "DNS", "Records", name, "CNAME")
			for _, mx := range set.MX {
				point(section.Warning, mx.Exchange, "DNS", "Records", name, "MX")
			}
			for _, srv := range set.SRV {
				point(section.Warning, srv.Target, "DNS", "Records", name, "SRV")
			}
			for _, ns := range set.NS {
				point(section.Warning, ns, "DNS", "Records", name, "NS")
			}
		}
	})
	e.inUse(func(h *host) {
		if addressed(h) {
			return
		}
		for _, alias := range h.facts.Network.CNames {
			if len(e.served(h, alias)) > 0 {
				e.add(Finding{Severity: section.Error, ID: h.id(), Path: "Network/cname",
					Message: fmt.Sprintf("the alias %s leads to this host, which has no address", hostdb.NormalName(alias)),
					Remedy:  "write the host's address into Network/IP, or take the alias out"})
			}
		}
	})
}
