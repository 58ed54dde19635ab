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
		if all := e.zones[t.zone]; t.zone != "" && len(all) > 1 {
			strictest(e, t, all)
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

// strictest says that t wants its zone transferred in another way than the first of all tags that make it does: then what all
// of them allow counts. Of keys any two that differ are one too many.
func strictest(e *exam, t *tag, all []*tag) {
	x, first := t.facts.DNS.Transfer, all[0]
	f := Finding{ID: t.id(), Path: path("DNS", "Transfer"), Remedy: "write the same Allow and Key into both, or let one tag make the zone"}
	what := "both"
	if len(all) > 2 {
		what = fmt.Sprintf("all %d tags that make it", len(all))
		f.Remedy = "write the same Allow and Key into all of them, or let one tag make the zone"
	}
	for _, o := range all[:slices.Index(all, t)] {
		if key := o.facts.DNS.Transfer.Key; key != "" && x.Key != "" && hostdb.NormalName(key) != hostdb.NormalName(x.Key) {
			f.Severity, f.Related = section.Error, []string{o.id()}
			f.Message = fmt.Sprintf("%s makes the zone %s, too, and names another Key: nobody may transfer it", o.id(), strings.TrimSuffix(t.zone, "."))
			e.add(f)
			return
		}
	}
	if y := first.facts.DNS.Transfer; slices.Equal(x.Allow, y.Allow) && hostdb.NormalName(x.Key) == hostdb.NormalName(y.Key) {
		return
	}
	f.Severity, f.Related = section.Warning, []string{first.id()}
	f.Message = fmt.Sprintf("%s makes the zone %s, too, with another Transfer: only who may by %s may transfer it", first.id(), strings.TrimSuffix(t.zone, "."), what)
	e.add(f)
}
