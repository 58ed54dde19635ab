package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
)

// leave has the database clusters whose primary is on a node that is drained, or in a virtual machine of its box, go on elsewhere: where failovers are automatic, by a switchover, which
// loses nothing. It returns a line for each such cluster: what became of it, or what a person is to do.
func (d *mysqlDesk) leave(ctx context.Context, by, node, reason string) (lines []string) {
	db := d.view()
	for _, tag := range slices.Sorted(db.Keys(hostdb.Tags)) {
		my, _ := section.MySQLOf(db.Data(hostdb.Tags, tag))
		if my == nil {
			continue
		}
		say := func(format string, args ...any) { lines = append(lines, "tags/"+tag+": "+fmt.Sprintf(format, args...)) }
		r, _, err := d.records.Load(ctx, tag)
		switch host := r.Primary; {
		case errors.Is(err, mysqlha.ErrNoRecord):
		case err != nil:
			if slices.ContainsFunc(db.Members(hostdb.Tags, tag), func(h string) bool { return on(db, h, node) }) {
				say("whether its primary is here is not known: %v: hostmesh mysql status %s", err, tag)
			}
		case !on(db, host, node):
		case my.Failover != section.Auto:
			say("its primary is %s, and stays there, for Failover is manual: hostmesh mysql switchover %s", host, tag)
		default:
			a, err := d.ask(ctx, mysqlQuestion{What: "switchover", Tag: tag, By: by, Log: "node drain: " + reason})
			if err != nil || a.Done == nil {
				say("its primary is %s, and did not hand over: %v: hostmesh mysql switchover %s", host, err, tag)
			} else {
				say("%s has handed over to %s, in %d ms", host, a.Done.Primary, a.Done.Took.Milliseconds())
			}
		}
	}
	return lines
}

// on reports whether a host is a node, or a virtual machine on its box.
func on(db hostdb.View, host, node string) bool {
	return host == node || db.Data(hostdb.Hosts, host).Text("VM", "Box") == node
}
