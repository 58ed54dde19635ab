package node

import (
	"context"
	"fmt"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// mender implements api.Mender.
type mender struct{ *Agent }

// Forks implements api.Mender.
func (m mender) Forks(context.Context) ([]api.Fork, error) {
	forks, err := m.store.Forks()
	if err != nil {
		return nil, err
	}
	members := m.mesh.View()
	var list []api.Fork
	for _, f := range forks {
		x := api.Fork{Origin: originText(f.Origin), Seq: f.Seq, Node: f.Node, Revision: f.Revision.String(), Ours: f.Ours.String(),
			User: f.User, Log: f.Log, Seen: f.Seen.UTC()}
		if member, ok := members.Get(f.Node); ok {
			x.Node = member.Name
		}
		x.Changes, x.Omitted = changesOf(withoutSystem(f.Effects), nil, listedChanges)
		if x.Changes == nil {
			x.Changes = []api.RevisionChange{}
		}
		list = append(list, x)
	}
	return list, nil
}

// Restamp implements api.Mender.
func (m mender) Restamp(ctx context.Context, all bool) (api.Restamped, error) {
	if !m.replica.Sounded(all) {
		who := "the members that are alive"
		if all {
			who = "all members, each of which must be alive or removed"
		}
		return api.Restamped{}, fmt.Errorf("restamp: %w: this node has yet to hear from %s what they hold: try again in a minute", hostdb.ErrUnavailable, who)
	}
	done, err := m.store.Restamp(ctx, hostdb.Restamping{Held: m.replica.HeldElsewhere, All: all})
	if err != nil {
		return api.Restamped{}, err
	}
	var out api.Restamped
	for _, r := range done.Moved {
		out.Moved = append(out.Moved, api.RestampedRevision{Old: r.Old.String(), New: r.New.String(), User: r.User, Log: r.Log})
	}
	for _, l := range done.Left {
		changes, _ := changesOf(withoutSystem([]hostdb.Effect{l.Effect}), nil, 1)
		left := api.RestampedLeft{Revision: l.Revision.String(), Why: l.Why}
		if len(changes) > 0 {
			left.Change = changes[0]
		}
		out.Left = append(out.Left, left)
	}
	return out, nil
}

// withoutSystem are the effects that people may see.
func withoutSystem(effects []hostdb.Effect) []hostdb.Effect {
	var out []hostdb.Effect
	for _, x := range effects {
		if x.NS != hostdb.System {
			out = append(out, x)
		}
	}
	return out
}
