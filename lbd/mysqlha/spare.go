package mysqlha

import "slices"

// gone reports whether an acker has not been seen to receive for so long that it is done without.
func (o *Observations) gone(host string) bool {
	s := o.Servers[host]
	return !s.acked().IsZero() && o.Now.Sub(s.acked()) > ackerPatience
}

// leaving is what is done about one that counts and is no member any more: it is told, or shut out when it is away. One that was deleted has no address by which it could be; a person has said that it is gone, and so does the
// primary, which has nobody connected but those who count.
func leaving(c *Cluster, o *Observations, d Diagnosis) (Action, bool) {
	host := d.Host
	m, _ := c.Known(host)
	s, p := o.Servers[host], o.Servers[c.Record.Primary]
	complete := others(c, o, host)
	switch {
	case s.answers(o.Now):
		if complete || !c.Strict() {
			return Action{Act: ActDismiss, Host: host, Why: d.Text}, true
		}
	case !complete:
	case m.Unfit == notInHostDB:
		if n, _ := beside(c, o, host); !s.Agent && o.Now.Sub(s.AgentGone) > ackerPatience && p.Facts.Semi.Clients <= n {
			return Action{Act: ActDismiss, Host: host, Why: d.Text + ", nor in HostDB; others have all"}, true
		}
	case m.Unfit == "" && o.gone(host) && p.Agent:
		return Action{Act: ActShut, Host: host, Why: d.Text + "; it is away, and others have all"}, true
	}
	return Action{}, false
}

// begin is what is done about a replica whose process has ended: it is started. One that cannot recover its data becomes a copy of another with that, unless it counts: then it is first to count no more, as one whose disk was replaced.
func begin(c *Cluster, o *Observations, d Diagnosis) (Action, bool) {
	host := d.Host
	if o.Servers[host].Unrecoverable {
		switch {
		case !slices.Contains(c.Record.Ackers, host):
			if cloneFrom(c, o, host) == c.Record.Primary && uncopyable(c, o) {
				away, yes := forsaken(c, o)
				if !yes {
					return Action{}, false // a copy would not end before who is away comes back
				}
				return release(c, o, forNew(c, o, away, host))
			}
		case spare(c, o, host):
			return Action{Act: ActDismiss, Host: host, Why: d.Text + "; it counts no more"}, true
		}
	}
	return Action{Act: ActStart, Host: host, As: AsReplica, Why: d.Text}, true
}

// spare reports whether an acker can be counted no more without that a failover loses what it acknowledged: another has all, or nobody is counted then,
// so that there is no failover.
func spare(c *Cluster, o *Observations, host string) bool {
	return !c.Strict() || len(c.Record.Ackers) == 1 && c.Record.Ackers[0] == host || others(c, o, host)
}

// others reports whether the primary has no other ackers connected than those that are counted beside host, and one of these has all.
func others(c *Cluster, o *Observations, host string) bool {
	connected, complete := beside(c, o, host)
	return complete && o.Servers[c.Record.Primary].Facts.Semi.Clients <= connected+1
}

// beside is how many ackers are connected to the primary that are counted beside host, and whether one of these has all.
func beside(c *Cluster, o *Observations, host string) (connected int, complete bool) {
	for _, h := range c.Record.Ackers {
		s := o.Servers[h]
		if h == host || !s.answers(o.Now) || !healthy(s.Facts) || !s.Facts.Semi.Acker || !c.follows(s.Facts, c.Record.Primary) {
			continue
		}
		connected++
		complete = complete || caughtUp(c, o, h) && sameStart(c.Record.Starts[h], o.began(s))
	}
	return connected, complete
}
