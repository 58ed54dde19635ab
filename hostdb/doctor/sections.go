package doctor

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

func sectionChecks() []Check {
	return []Check{
		{"sections", "sections and facts that cannot be read as they stand, and slips of their names", documents},
		{"combined", "tags of one host that say different things with equal strength, and what they lack together", combined},
	}
}

// manual are the names that hostmesh schema explains: sections of tags and facts of hosts.
func manual() []string {
	var out []string
	for _, d := range section.Schema() {
		if d.Namespace == hostdb.Tags && d.Name != "Tag" {
			out = append(out, d.Name)
			continue
		}
		for _, f := range d.Fields { // keys of the document itself
			name, _, _ := strings.Cut(f.Path, "/")
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func documents(e *exam) {
	known := manual()
	add := func(id string, list []section.Problem) {
		for _, p := range list {
			keys := p.Path.Segments()
			remedy := "write a mapping; what may stand there: hostmesh schema"
			if len(keys) > 0 {
				remedy = "correct it"
				if slices.Contains(known, keys[0]) {
					remedy += "; what may stand there: hostmesh schema " + keys[0]
				}
			}
			e.add(Finding{Severity: p.Severity, ID: id, Path: p.Path.String(), Message: p.Reason, Remedy: remedy})
		}
	}
	for _, h := range e.hosts {
		if e.over() {
			return
		}
		add(h.id(), h.problems)
	}
	e.eachTag(func(t *tag) { add(t.id(), t.problems) })
}

// troop are hosts with the same tags, which therefore get the same of them.
type troop struct {
	tags  []section.Source
	hosts []*host
}

// combined looks at each combination of tags once, not at each host.
func combined(e *exam) {
	troops := map[string]*troop{}
	var order []string
	e.inUse(func(h *host) {
		if e.opts.Host != "" && e.opts.Host != h.key {
			return
		}
		tags := section.TagsOf(e.view, h.key)
		var b strings.Builder
		for _, t := range tags {
			b.WriteString(t.ID)
			b.WriteByte(byte(t.Rank))
		}
		tr := troops[b.String()]
		if tr == nil {
			tr = &troop{tags: tags}
			troops[b.String()] = tr
			order = append(order, b.String())
		}
		tr.hosts = append(tr.hosts, h)
	})
	d := disagreements{}
	lacks := map[string]*lack{}
	for _, key := range order {
		if e.over() {
			return
		}
		tr := troops[key]
		r := section.CombineTags(e.view, tr.tags)
		for _, x := range r.Disagreements {
			d.note(x, tr.hosts)
		}
		e.lacking(lacks, tr, r)
	}
	e.report(d, lacks)
}

// disagreement is one disagreement of tags with all the hosts it decides for.
type disagreement struct {
	section.Disagreement
	hosts []string
}

type disagreements map[string]*disagreement

func (d disagreements) note(x section.Disagreement, hosts []*host) {
	key := string(x.Path) + "\x00\x00" + x.Used.ID
	for _, o := range x.Other {
		key += "\x00" + o.ID
	}
	for _, h := range hosts {
		if section.Decides(h.doc, x.Path) {
			continue // the host says itself what it wants
		}
		if d[key] == nil {
			d[key] = &disagreement{Disagreement: x}
		}
		d[key].hosts = append(d[key].hosts, h.id())
	}
}

// lack is what a combination of tags lacks, with the hosts that get it.
type lack struct {
	problem section.Problem
	from    string
	hosts   []string
}

func (e *exam) lacking(all map[string]*lack, tr *troop, r section.Result) {
	note := func(r section.Result, hosts ...*host) {
		_, problems := r.Sections()
		for _, p := range problems {
			if len(p.Path.Segments()) == 0 || !strings.Contains(p.Reason, "is missing") {
				continue // what is there and wrong is told where it stands
			}
			from, ok := r.Origin(hostdb.PathOf(p.Path.Segments()[0]))
			if !ok {
				continue
			}
			key := from.ID + "\x00" + string(p.Path) + "\x00" + p.Reason
			if all[key] == nil {
				all[key] = &lack{problem: p, from: from.ID}
			}
			for _, h := range hosts {
				all[key].hosts = append(all[key].hosts, h.id())
			}
		}
	}
	var plain []*host
	for _, h := range tr.hosts {
		if section.Configures(h.doc) {
			note(section.Effective(e.view, h.key), h)
		} else {
			plain = append(plain, h)
		}
	}
	if len(plain) > 0 {
		note(r, plain...)
	}
}

func (e *exam) report(d disagreements, lacks map[string]*lack) {
	for _, x := range d {
		var others []string
		for _, o := range x.Other {
			others = append(others, o.ID)
		}
		e.add(Finding{Severity: section.Error, ID: x.Used.ID, Path: x.Path.String(), Related: slices.Concat(others, x.hosts),
			Message: fmt.Sprintf("%s %s else with equal strength, and only the names of the tags decide, for %s such as %s", enumerate(others),
				map[bool]string{true: "says something", false: "say something"}[len(others) == 1], count(len(x.hosts), "host", "hosts"), x.hosts[0]),
			Remedy: "give one of the tags a higher Priority, or make them say the same; see hostmesh explain " + strings.TrimPrefix(x.hosts[0], hostdb.Hosts+"/") + " " + x.Path.String()})
	}
	for _, l := range lacks {
		e.add(Finding{Severity: l.problem.Severity, ID: l.from, Path: l.problem.Path.String(), Related: l.hosts,
			Message: fmt.Sprintf("%s; none of the tags of %s such as %s says it", l.problem.Reason, count(len(l.hosts), "host", "hosts"), l.hosts[0]),
			Remedy:  "add it to one of the tags of the host, which combine; see hostmesh explain " + strings.TrimPrefix(l.hosts[0], hostdb.Hosts+"/")})
	}
}
