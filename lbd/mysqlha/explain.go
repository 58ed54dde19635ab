package mysqlha

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Explain says, for people, why it did, or did not, fail over, with what was seen. It is a pure function of a picture.
func Explain(p *Picture) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	c, o := &p.Cluster, &p.Observations
	head := p.Diagnoses[0]
	say("%s: %s", head.Name, head.Text)
	for _, e := range head.Evidence {
		say("  %s", e)
	}
	if head.Remedy != "" {
		say("  what to do: %s", head.Remedy)
	}
	verb := "so"
	if p.Observe {
		verb = "so, if it did not only observe,"
	}
	say("%s: %s", verb, orNothing(p.Says()))
	for _, d := range p.Diagnoses[1:] {
		say("also, %s: %s", d.Name, d.Text)
		for _, e := range d.Evidence {
			say("  %s", e)
		}
		if d.Remedy != "" {
			say("  what to do: %s", d.Remedy)
		}
	}
	if c.HasRecord {
		r := &c.Record
		say("the record: epoch %d, primary %s, acknowledging %s, durability %s", r.Epoch, r.Primary, orNobody(r.Ackers), r.Durability)
		if why := refuses(c, o); why != "" {
			say("if the primary died now there would be no automatic failover: %s", why)
		} else if r.Paused != nil {
			say("if the primary died now there would be no automatic failover: automatic acts were paused by %s", r.Paused.By)
		} else {
			say("if the primary died now another would be promoted")
		}
		for _, h := range slices.Sorted(maps.Keys(r.Fenced)) {
			say("fenced: %s, %s", h, r.Fenced[h])
		}
	}
	for _, m := range slices.Concat(c.Members, c.Others) {
		say("%s", describe(m, o.Servers[m.Host], o.Now))
	}
	if len(p.Story) > 0 {
		say("what was decided, the last first:")
	}
	for _, l := range slices.Backward(p.Story) {
		text := fmt.Sprintf("  %s %s", l.At.UTC().Format("15:04:05.000"), l.Diagnosis.Name)
		if l.Diagnosis.Host != "" {
			text += " (" + l.Diagnosis.Host + ")"
		}
		text += ": " + strings.TrimSpace(string(l.Action.Act)+" "+l.Action.Host)
		if l.Error != "" {
			text += ", and that did not succeed: " + l.Error
		} else if l.Action.Why != "" {
			text += ", because " + l.Action.Why
		}
		say("%s", text)
	}
	return out
}

// Says is what follows, for people; "" = nothing is done, for nothing is to be.
func (p *Picture) Says() string {
	a := p.Action
	if a.Act == ActNone && a.Why == p.Diagnoses[0].Text {
		a.Why = "" // it was said
	}
	return a.Says()
}

// Says is what an act is, for people, and why; "" = nothing is done, for nothing is to be.
func (a Action) Says() string {
	what := ""
	switch a.Act {
	case ActNone:
		if a.For == Well {
			return ""
		}
		what = "nothing is done"
	case ActPage:
		what = "a person has to decide"
	case ActProbe:
		return "all servers are asked again, at once"
	case ActFailover:
		return "another server takes the writes"
	case ActContinue:
		what = "the change goes on"
	case ActClone:
		what = fmt.Sprintf("%s becomes a copy of %s", a.Host, a.From)
	case ActStart:
		what = fmt.Sprintf("the server on %s is started as a %s", a.Host, a.As)
	default:
		what = strings.TrimSpace(string(a.Act) + " " + a.Host)
	}
	if a.Why == "" {
		return what
	}
	return what + ", because " + a.Why
}

func orNothing(s string) string { return cmp.Or(s, "nothing is done") }

func orNobody(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, ", ")
}

// describe is one line about a server.
func describe(m Member, s Sight, now time.Time) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case m.Unfit != "":
		add("%s", m.Unfit)
	case !s.Known:
		add("it has not answered yet")
	default:
		add("answered %s ago", age(now, s.Answered))
	}
	if s.Cause != "" {
		add("%s for %s: %s", s.Cause, age(now, s.Since), shorten(s.Error))
	}
	if s.Pings > 0 {
		add("%d fresh connections were not served: %s", s.Pings, shorten(s.PingError))
	}
	if f := s.Facts; s.Known {
		if f.ReadOnly {
			add("read-only")
		} else {
			add("takes writes")
		}
		add("has %s", f.Current)
		if r := f.Replica; r != nil {
			add("follows %s (receiving: %s, applying: %s)", r.SourceHost, strings.ToLower(r.IO), map[bool]string{true: "yes", false: "no"}[r.SQL])
			if r.Lag != nil {
				add("%s behind", *r.Lag)
			}
		}
		if f.Semi.Source {
			add("waits for acknowledgements, of %d replicas, %d sessions wait", f.Semi.Clients, f.Semi.Waiting)
		}
		if f.Semi.Acker {
			add("acknowledges")
		}
	}
	if !s.Agent {
		add("its agent is away")
	} else if s.Reported {
		add("its agent says: %s", s.Process)
	}
	if s.VIP != "" {
		add("the address: %s", s.VIP)
	}
	if m.Drained != "" {
		add("drained: %s", m.Drained)
	}
	return m.Host + ": " + strings.Join(parts, ", ")
}
