package mysqlha

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// lost tells what a primary that answers has not got any more, one line for each who says so; nil = nothing. A disk that was replaced, or set back to an older state, leaves a server that starts as if all was well. It would give
// the numbers of transactions that its replicas have to others, and be what they are copied from.
//
// An acker has nothing of what the primary wrote that this has not: its log is on the disk before anything is sent (sync_binlog). Of others that is not so, while some acknowledge: what was never acknowledged they may have
// kept when the primary dropped it.
func (c *Cluster) lost(o *Observations) (evidence []string) {
	p := o.Servers[c.Record.Primary]
	if !p.answers(o.Now) {
		return nil
	}
	if was, err := ParseGTIDs(p.Facts.Flavour, c.Record.Position); err == nil { // noPosition is none
		if has, err := ParseGTIDs(p.Facts.Flavour, p.Facts.Current); err == nil && !has.Reaches(was) {
			evidence = append(evidence, fmt.Sprintf("it had %s by the record, and has %s", was, cmp.Or(has.String(), "nothing")))
		}
	}
	for _, host := range c.witnesses() {
		f, ok := o.Servers[host].before(p.Asked) // one that is away since has it all the same
		if gone, err := Forgotten(p.Facts, f); ok && err == nil && !gone.Empty() {
			evidence = append(evidence, fmt.Sprintf("%s has %s of what it wrote, which it has not", host, gone))
		}
	}
	return evidence
}

// witnesses are those whose data tell what the primary had: who acknowledges, and was found to have all. Where nobody does, and the record does not tell how far it was, all others. A person who has chosen a primary that has less (hostmesh mysql setup) has
// the record tell.
func (c *Cluster) witnesses() (hosts []string) {
	if len(c.Record.Ackers) > 0 || c.Record.Position != "" {
		return slices.Sorted(maps.Keys(c.Record.Starts))
	}
	for _, m := range c.Members {
		if m.Host != c.Record.Primary && m.Unfit == "" && c.Record.Fenced[m.Host] == "" {
			hosts = append(hosts, m.Host)
		}
	}
	return hosts
}

// unspoilt refuses what would be done with replicas in favour of a primary that has lost data. It asks replicas first, for what they have the primary had before; of those that do not answer o tells.
func (r *Runner) unspoilt(ctx context.Context, c *Cluster, o *Observations, primary Member) (*Observations, error) {
	o = r.look(ctx, everybody(c, primary.Host), o)
	o = r.look(ctx, []Member{primary}, o)
	if evidence := c.lost(o); len(evidence) > 0 {
		return nil, fmt.Errorf("%s, the primary, has lost data: %s", primary.Host, strings.Join(evidence, "; "))
	}
	return o, nil
}

// replaceable refuses, with that, to make a copy of a server that has what the primary has not, unless a person has asked for it: it may be all that is left of that.
func (r *Runner) replaceable(ctx context.Context, c *Cluster, m, primary Member, asked bool) error {
	o, err := r.unspoilt(ctx, c, &Observations{}, primary)
	if err != nil {
		return err
	}
	s, p := o.Servers[m.Host], o.Servers[primary.Host]
	if asked || c.Record.Fenced[m.Host] != "" || !s.answers(o.Now) || !p.answers(o.Now) || s.Facts.Flavour != p.Facts.Flavour {
		return nil
	}
	if extra, err := Errant(s.Facts, p.Facts, true); err != nil {
		return err
	} else if !extra.Empty() {
		return fmt.Errorf("%s has transactions that %s has not: %s: hostmesh mysql clone %s - %s replaces them", m.Host, primary.Host, extra, c.Tag, m.Host)
	}
	return nil
}
