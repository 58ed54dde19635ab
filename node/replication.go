package node

import (
	"fmt"
	"time"

	"hostmesh/hostdb/replica"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// memberIDs are the ids of all members that were not removed, this node's among them.
func (a *Agent) memberIDs() []string {
	members := a.mesh.View().Members()
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	return ids
}

// replicationStatus shows how replication stands, with names where nodes are known.
func (a *Agent) replicationStatus(st replica.Status, v mesh.View) api.ReplicationStatus {
	name := func(id string) string {
		if m, ok := v.Get(id); ok {
			return m.Name
		}
		return id
	}
	out := api.ReplicationStatus{
		HistoryMissing: a.store.Missing(), HistoryError: st.Fill.Err, Verdict: st.Verdict,
		Clocks: api.ClocksStatus{Known: st.Clocks.Known, AheadMS: st.Clocks.Ahead.Milliseconds(), Wrong: st.Clocks.Wrong, Differ: st.Clocks.Differ},
	}
	if st.Join.Active {
		out.Join = &api.JoinStatus{From: name(st.Join.From), Bytes: st.Join.Bytes, Keys: st.Join.Keys, Error: st.Join.Err}
	}
	for _, f := range st.Forks {
		out.Forks = append(out.Forks, api.ForkStatus{Origin: originText(f.Origin), Node: name(f.Node), Peer: name(f.Peer), Seqs: f.Seqs, Since: f.Since.UTC()})
	}
	for _, x := range st.Aside {
		out.Aside = append(out.Aside, api.AsideStatus{Origin: originText(x.Origin), Node: name(x.Node), AheadMS: x.Ahead.Milliseconds(), Since: x.Since.UTC(), Until: x.Until.UTC()})
	}
	for _, c := range st.Clocks.Peers {
		if c.Wrong || c.Off.Abs() > time.Second {
			out.Clocks.Others = append(out.Clocks.Others, api.PeerClock{Name: name(c.Node), AheadMS: c.Offset.Milliseconds(), OffMS: c.Off.Milliseconds(), Wrong: c.Wrong})
		}
	}
	kept, from := a.retention.state()
	if out.Kept = kept; !from.IsZero() {
		from = from.UTC()
		out.HistoryFrom = &from
	}
	return out
}

// lostProblems tells of a replica that lacks what the others have dropped.
func lostProblems(origins int) []api.Problem {
	if origins == 0 {
		return nil
	}
	return []api.Problem{{
		Severity: api.SeverityError, Subject: "history",
		Text: fmt.Sprintf("this node lacks operations of %d runs that the others have dropped: its HostDB never becomes equal to theirs; "+
			"was its directory set back to an older copy?", origins),
		Remedy: "save what only this node has with hostmesh db export --unreplicated, remove the node, and start it with an empty data directory",
	}}
}

func originText(origin uint64) string { return fmt.Sprintf("%016x", origin) }
