package mysqlha

import (
	"fmt"
	"slices"
	"time"
)

// strangerAfter is for how long a primary must have more replicas connected that acknowledge than there are, before it is said: what a replica that comes back has left behind there ends soon after.
const strangerAfter = 30 * time.Second

// strangers are how many replicas the primary has connected that acknowledge, and nobody watches. They are known only while all others are connected: of one that is away the primary counts what it has left behind, for minutes.
func (c *Cluster) strangers(o *Observations) int {
	p := o.Servers[c.Record.Primary]
	if !p.answers(o.Now) || p.Facts.Replica != nil || c.Record.Intent != nil {
		return 0
	}
	n := 0
	for _, m := range slices.Concat(c.Members, c.Others) {
		if m.Host == c.Record.Primary {
			continue
		}
		s := o.Servers[m.Host]
		if !s.answers(o.Now) || !c.follows(s.Facts, c.Record.Primary) || s.Facts.Replica.IO != "Yes" || s.frozen(o.Now) {
			return 0
		}
		n++ // whether it is set to now says little: that holds from the next start of its thread
	}
	return max(0, p.Facts.Semi.Clients-n)
}

// strange notes since when there are such.
func (w *Watch) strange(c *Cluster, o *Observations) {
	switch {
	case c.strangers(o) == 0:
		w.strangers = time.Time{}
	case w.strangers.IsZero():
		w.strangers = o.Now
	}
	o.Strangers = w.strangers
}

// stranger tells of them. No failover is refused for them: who has left no more than a count behind cannot be told from one that acknowledges.
func (d *diagnosing) stranger() {
	c, o := d.c, d.o
	n := c.strangers(o)
	if n == 0 || o.Strangers.IsZero() || o.Now.Sub(o.Strangers) < strangerAfter {
		return
	}
	host := c.Record.Primary
	clients := o.Servers[host].Facts.Semi.Clients
	d.add(AckerStray, "", fmt.Sprintf("%s has %d replicas connected that acknowledge, and %d that are known: what only another has acknowledged, a failover may lose", host, clients, clients-n), nil,
		"SHOW SLAVE HOSTS on "+host+" names them. Give the tag to the host of one that is to count; on any other SET GLOBAL rpl_semi_sync_slave_enabled=0, STOP SLAVE IO_THREAD, START SLAVE IO_THREAD")
}
