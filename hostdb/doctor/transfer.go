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
		if first := e.zones[t.zone]; t.zone != "" && len(first) > 1 && first[0] != t {
			strictest(e, t, first[0])
		}
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
	})
}

// strictest says that two tags want one zone transferred in different ways: then what both allow counts.
func strictest(e *exam, t, first *tag) {
	x, y := t.facts.DNS.Transfer, first.facts.DNS.Transfer
	if slices.Equal(x.Allow, y.Allow) && hostdb.NormalName(x.Key) == hostdb.NormalName(y.Key) {
		return
	}
	f := Finding{Severity: section.Warning, ID: t.id(), Path: path("DNS", "Transfer"), Related: []string{first.id()},
		Message: fmt.Sprintf("%s makes the zone %s, too, with another Transfer: only who may by both may transfer it", first.id(), strings.TrimSuffix(t.zone, ".")),
		Remedy:  "write the same Allow and Key into both, or let one tag make the zone"}
	if x.Key != "" && y.Key != "" && hostdb.NormalName(x.Key) != hostdb.NormalName(y.Key) {
		f.Severity = section.Error
		f.Message = fmt.Sprintf("%s makes the zone %s, too, and names another Key: nobody may transfer it", first.id(), strings.TrimSuffix(t.zone, "."))
	}
	e.add(f)
}
