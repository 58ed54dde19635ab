package mysqlha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Choice is who is to be the primary.
type Choice struct {
	// To is the host; "" = nobody may be, and Stop says why.
	To string
	// Position is how far it must come.
	Position string
	Stop     string
	// Loss is what may be lost with it; "" = nothing that was acknowledged.
	Loss string
	// Evidence is one line for each that was looked at.
	Evidence []string
}

// Choose is the gate of a failover, and who passes it. o is what was seen after the old primary was deposed; those that are to be left alone (Rest) were tried in vain, and come after others that have as much. It is a
// pure function.
//
// A transaction that was acknowledged is on one of the record's ackers. So as long as each of them receives nothing more, or the old primary is dead,
// and the position of each is known, the furthest of them has all. Once that was found out it holds for whoever is chosen later.
func Choose(c *Cluster, o *Observations) Choice {
	i := c.Record.Intent
	var ch Choice
	var unsure, uncut []string
	need := GTIDs{}
	passed := i.Position != "" // by one that was chosen before: nobody has acknowledged anything since
	ackers := slices.Clone(c.Record.Ackers)
	for _, m := range slices.Concat(c.Members, c.Others) {
		// What one acknowledged that was not counted yet is acknowledged all the same.
		if s := o.Servers[m.Host]; c.stray(s, m.Host, i.Old) && o.Now.Sub(s.IORan) < recently {
			ackers = append(ackers, m.Host)
		}
	}
	for _, host := range ackers {
		s := o.Servers[host]
		if !slices.Contains(i.Cut, host) {
			uncut = append(uncut, host)
		}
		if passed {
			continue
		}
		switch pos, err := PositionOf(s.Facts); {
		case !s.answers(o.Now):
			unsure = append(unsure, host+" does not answer")
		case err != nil:
			unsure = append(unsure, fmt.Sprintf("%s: %s", host, err))
		default:
			need = need.Further(pos)
			if why := o.forgot(c, host, i.Old); why != "" {
				unsure = append(unsure, why)
			}
		}
	}
	switch why := asynchronous(i.Old, o.Servers[i.Old], o.Now); {
	case passed:
		var err error
		if need, err = ParseGTIDs(flavourOf(c, o), i.Position); err != nil {
			unsure = append(unsure, fmt.Sprintf("how far the new primary must come: %s", err))
		}
		if i.Loss != "" {
			unsure = append(unsure, i.Loss)
		}
	case len(c.Record.Ackers) == 0:
		unsure = append(unsure, "no replica was known to have all that was acknowledged")
		fallthrough
	default:
		if why != "" {
			unsure = append(unsure, why)
		}
	}
	gate := ""
	if len(uncut) > 0 && i.FenceConfirmed == "" {
		gate = fmt.Sprintf("%s could not be cut from %s, which was not killed either: the two may go on together", strings.Join(uncut, ", "), i.Old)
	}
	type candidate struct {
		Member
		sight   Sight
		pos     GTIDs
		trapped bool
		// unproven is why its data are not to be trusted; only a person can have it promoted all the same.
		unproven string
		lacks    GTIDs
	}
	var list []candidate
	old := o.Servers[i.Old]
	if i.Spoilt {
		old = Sight{}
	}
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		if m.Host == i.Old {
			continue
		}
		if !s.answers(o.Now) {
			ch.Evidence = append(ch.Evidence, m.Host+": does not answer")
			continue
		}
		pos, err := PositionOf(s.Facts)
		unproven := s.unproven()
		if i.Forced {
			s.Copy, s.Differs = "", ""
		}
		why := fit(c, m, s)
		if err != nil && why == "" {
			why = err.Error()
		}
		if why == "" {
			why = strange(s, old)
		}
		if why == "" && o.Busy[m.Host] != "" {
			why = o.Busy[m.Host]
		}
		if why != "" {
			ch.Evidence = append(ch.Evidence, m.Host+": "+why)
			continue
		}
		x := candidate{Member: m, sight: s, pos: pos, unproven: unproven}
		// Both threads stopped: what was received would be purged with the next start.
		if r := s.Facts.Replica; r != nil && !r.SQL && Unapplied(s.Facts) {
			x.trapped = true
			x.pos, _ = ParseGTIDs(s.Facts.Flavour, s.Facts.Current)
		}
		x.lacks = lacks(s.Facts, need, x.trapped)
		list = append(list, x)
		ch.Evidence = append(ch.Evidence, fmt.Sprintf("%s: has %s%s", m.Host, cmp.Or(x.pos.String(), "nothing"), map[bool]string{true: " that it can still apply, and received " + s.Facts.Received}[x.trapped]))
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		able := boolFirst(a.sight.able() && !o.Now.Before(o.Rest[a.Host]), b.sight.able() && !o.Now.Before(o.Rest[b.Host]))
		if d := cmp.Or(boolFirst(a.unproven == "", b.unproven == ""), boolFirst(a.lacks.Empty(), b.lacks.Empty())); d != 0 {
			return d
		} else if a.lacks.Empty() && !need.Empty() && len(unsure) == 0 && able != 0 { // both have all that was acknowledged: what one has beyond that is worth no waiting
			return able
		}
		if d := cmp.Or(cmp.Compare(b.pos.Count(), a.pos.Count()), able); d != 0 {
			return d
		}
		// An agent that is gone brings no address: clients would wait for its return.
		return cmp.Or(boolFirst(a.Drained == "", b.Drained == ""), boolFirst(a.sight.Agent, b.sight.Agent), boolFirst(!Unapplied(a.sight.Facts), !Unapplied(b.sight.Facts)),
			boolFirst(slices.Contains(c.Record.Ackers, a.Host), slices.Contains(c.Record.Ackers, b.Host)), cmp.Compare(a.Host, b.Host))
	})
	if len(list) == 0 {
		ch.Stop = "no replica can be promoted: " + strings.Join(ch.Evidence, "; ")
		return ch
	}
	best := list[0]
	var losses []string
	if gate != "" {
		losses = append(losses, gate)
	}
	losses = append(losses, unsure...)
	if best.unproven != "" {
		losses = append(losses, best.Host+", the best that can be promoted: "+best.unproven)
	}
	if !best.lacks.Empty() {
		losses = append(losses, fmt.Sprintf("%s, the furthest that can be promoted, has %s, and has not got %s, which was received", best.Host, cmp.Or(best.pos.String(), "nothing"), best.lacks))
	}
	if len(losses) > 0 && c.Strict() && !i.Forced {
		ch.Stop = strings.Join(losses, "; ")
		return ch
	}
	ch.To, ch.Position, ch.Loss = best.Host, best.pos.String(), strings.Join(losses, "; ")
	return ch
}

// able reports whether nothing is known that keeps a server from applying what it has received.
func (s Sight) able() bool {
	return s.DiskFull == "" && (s.Facts.Replica == nil || s.Facts.Replica.Delay == 0)
}

// strange tells which transactions a server has that the old primary never had; "" = none. While that was a replica itself it had yet to get what others wrote.
func strange(s, old Sight) string {
	if old.Known && old.Facts.Replica == nil && old.Facts.Flavour == s.Facts.Flavour {
		if extra, err := Errant(s.Facts, old.Facts, false); err == nil && !extra.Empty() {
			return "it has transactions that the old primary never had: " + extra.String()
		}
	}
	return ""
}

// hopeless tells why none of the members but one can be promoted, now or when its server was started; "" = one can, or may.
func hopeless(c *Cluster, o *Observations, but string) string {
	var list []string
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		why := ""
		switch {
		case m.Host == but:
			continue
		case m.Unfit != "" || c.Record.Fenced[m.Host] != "" || s.answers(o.Now):
			if why = fit(c, m, s); why == "" && s.answers(o.Now) && len(c.lost(o)) == 0 {
				why = strange(s, o.Servers[but])
			}
		case !s.Agent && o.Busy[m.Host] == "":
			why = "neither its server nor its agent answers"
		}
		if why == "" {
			return ""
		}
		list = append(list, m.Host+": "+why)
	}
	return cmp.Or(strings.Join(list, "; "), "there is no other member")
}

// flavourOf is that of the cluster, as far as a server has said it.
func flavourOf(c *Cluster, o *Observations) string {
	for _, m := range c.Members {
		if s := o.Servers[m.Host]; s.Known {
			return s.Facts.Flavour
		}
	}
	return ""
}

// boolFirst orders what holds before what does not.
func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
