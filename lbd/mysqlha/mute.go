package mysqlha

import (
	"context"
	"fmt"
)

// mute are the replicas that the primary has let in, and sends nothing, not even a heartbeat; nil = there are none. MariaDB has one thread that takes acknowledgements. A replica that connects and is
// gone again before that thread has woken, when no other is connected, is waited for ever (read in 10.11 as remove_slave): what it left behind does not end, and whoever comes back as the same
// server waits for the end of that. A replica that is none of those wakes the thread. So this is so only while nobody is connected who acknowledges.
func (c *Cluster) mute(o *Observations) (hosts []string) {
	p := o.Servers[c.Record.Primary]
	f := p.Facts
	if !p.answers(o.Now) || f.Flavour != MariaDB || f.Replica != nil || !f.Semi.Source || f.Semi.Clients > 0 {
		return nil
	}
	if !f.ReadOnly && (f.Semi.Waiting == 0 || o.Now.Sub(p.Wrote) < stuckAfter) {
		return nil // nobody waits yet
	}
	for _, m := range c.Members {
		s := o.Servers[m.Host]
		if m.Host != c.Record.Primary && s.answers(o.Now) && c.follows(s.Facts, c.Record.Primary) && s.Facts.Replica.IO == "Yes" && s.frozen(o.Now) && o.Now.Sub(s.Moved) >= muteAfter {
			hosts = append(hosts, m.Host)
		}
	}
	return hosts
}

// muted says it.
func (d *diagnosing) muted() {
	c, o := d.c, d.o
	host := c.Record.Primary
	list := c.mute(o)
	if len(list) == 0 {
		return
	}
	var evidence []string
	for _, h := range list {
		evidence = append(evidence, fmt.Sprintf("%s: it is connected, and got no event and no heartbeat for %s", h, age(o.Now, o.Servers[h].Moved)))
	}
	f := o.Servers[host].Facts
	evidence = append(evidence, fmt.Sprintf("%s: it counts no replica as connected that acknowledges; %d sessions wait", host, f.Semi.Waiting))
	remedy := ""
	if !f.ReadOnly {
		remedy = "hostmesh mysql failover " + c.Tag + ", where that is not automatic: another takes the writes, and has all"
	}
	d.add(PrimaryMute, host, host+" lets replicas in, and sends them nothing: what takes acknowledgements there sleeps, and does not wake by itself", evidence, remedy)
}

// tooMany is the error of a server that has no connection left.
const tooMany = 1040

// choked finds that all connections of the primary are those of sessions that wait for an acknowledgement, and that its replicas get none, so that none comes. It is so where all replicas were away for longer than clients wait, who
// connected again each time: the server does not see that they have gone.
func (d *diagnosing) choked() {
	c, o := d.c, d.o
	host := c.Record.Primary
	p := o.Servers[host]
	f := p.Facts
	if f.ReadOnly || f.Replica != nil || !f.Semi.Source || f.Semi.Clients > 0 || f.Semi.Waiting == 0 || o.Now.Sub(p.Wrote) < stuckAfter {
		return
	}
	var evidence []string
	for _, m := range c.Members { // whether it counts or not: it would acknowledge
		if s := o.Servers[m.Host]; s.answers(o.Now) && c.follows(s.Facts, host) && s.Facts.Replica.IO != "Yes" && s.Facts.Replica.IOErrno == tooMany {
			evidence = append(evidence, fmt.Sprintf("%s: %s", m.Host, shorten(s.Facts.Replica.IOError)))
		}
	}
	if len(evidence) == 0 {
		return
	}
	evidence = append(evidence, fmt.Sprintf("%s: %d sessions wait for an acknowledgement, of %d connections that there may be", host, f.Semi.Waiting, f.MaxConnections))
	d.add(PrimaryChoked, host, host+" lets no replica in, for all its connections wait for the acknowledgement of one", evidence,
		"hostmesh mysql failover "+c.Tag+", where that is not automatic: another takes the writes, and has all. Where none may, for they were started anew, kill -9 the server's process on "+host+": its agent starts it again, and replicas get in. Then raise max_connections, or have clients wait longer before they connect again")
}

// hangs finds why writes on a primary that answers will never end.
func hangs(o *Observations, primary string, list []Diagnosis) (Diagnosis, bool) {
	if d, ok := has(list, PrimaryStuck, ""); ok {
		return d, true
	}
	if d, ok := has(list, PrimaryChoked, ""); ok {
		return d, true
	}
	d, ok := has(list, PrimaryMute, "")
	return d, ok && !o.Servers[primary].Facts.ReadOnly
}

// awaken frees a primary that sends nothing: its thread that takes acknowledgements ends, and with it all waiting for it, and is started anew. It takes no writes, and none waits, so that nobody is told that one is safe which is not.
func (r *Runner) awaken(ctx context.Context, m Member) error {
	f, err := r.observe(ctx, m)
	if err != nil {
		return err
	}
	if !f.ReadOnly || f.Semi.Waiting > 0 || f.Replica != nil {
		return fmt.Errorf("%w: %s takes writes, or some wait, or it follows another", ErrUnfit, m.Host)
	}
	server := r.cfg.World.Server(m)
	for what, f := range inOrder(
		"have it not wait for acknowledgements", func(ctx context.Context) error { return server.SetSource(ctx, false) },
		"have it wait for acknowledgements", func(ctx context.Context) error { return server.SetSource(ctx, true) },
	) {
		if err := r.bounded(ctx, openBound, f); err != nil {
			return fmt.Errorf("%s: %s: %w", m.Host, what, err)
		}
	}
	r.log.Warn("a primary that let replicas in and sent them nothing was freed: semi-sync was switched off and on", "host", m.Host, "epoch", r.rec.Epoch)
	r.remember("%s had let replicas in and sent them nothing: semi-sync was switched off and on", m.Host)
	return nil
}
