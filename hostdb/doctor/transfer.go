package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// tsigKey is where a TSIG key stands in .system.
func tsigKey(name string) string { return "tsig." + hostdb.NormalName(name) }

// transfers looks at who shall have a zone and cannot.
func transfers(e *exam) {
	e.eachTag(func(t *tag) {
		if t.facts.DNS == nil {
			return
		}
		x := t.facts.DNS.Transfer
		if len(x.Allow)+len(x.Notify) == 0 && x.Key == "" {
			return
		}
		if x.Key != "" && !e.view.Exists(hostdb.System, tsigKey(x.Key)) {
			e.add(Finding{Severity: section.Error, ID: t.id(), Path: path("DNS", "Transfer", "Key"),
				Message: fmt.Sprintf("there is no TSIG key %s, so nobody can transfer the zone", x.Key),
				Remedy:  "make it (hostmesh dns key add " + x.Key + "), or take Key out"})
		}
		for _, to := range x.Notify {
			if slices.ContainsFunc(x.Allow, func(n netip.Prefix) bool { return n.Contains(to.Addr().Unmap()) }) {
				continue
			}
			e.add(Finding{Severity: section.Warning, ID: t.id(), Path: path("DNS", "Transfer", "Notify"),
				Message: fmt.Sprintf("%s is told of changes and may not transfer the zone", to.Addr()),
				Remedy:  "add it to Allow, or take it out of Notify"})
		}
		if t.zone != "" && len(e.zones[t.zone]) > 1 && e.zones[t.zone][0] != t {
			first := e.zones[t.zone][0]
			e.add(Finding{Severity: section.Warning, ID: t.id(), Path: path("DNS", "Transfer"), Related: []string{first.id()},
				Message: fmt.Sprintf("it is not used: %s makes the zone %s, too, and comes first by name, so its Transfer counts", first.id(), strings.TrimSuffix(t.zone, ".")),
				Remedy:  "write it into " + first.id()})
		}
	})
}
