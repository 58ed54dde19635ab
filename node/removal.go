package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// removedKey is the key of namespace .system that remembers, for the whole mesh, which nodes were removed: each is a mapping under
// its id. A member that is away when a node is removed reads it when it is back. Entries stay for ever, as the fence does.
const removedKey = "removed"

// remedyRemoved is what a person does about a node that was removed and runs.
const remedyRemoved = "save what only this node has with hostmesh db export --unreplicated, stop the agent, and start it with an empty data directory: " +
	"it joins as a new node"

// removals keeps the mesh to what HostDB says of removed nodes.
type removals struct {
	store *hostdb.Store
	mesh  *mesh.Mesh
	agent *Agent
}

func (a *Agent) removals() removals { return removals{store: a.store, mesh: a.mesh, agent: a} }

// run bars removed nodes, at the start and whenever more are, until ctx ends.
func (r removals) run(ctx context.Context) error {
	changed, stop := r.store.Watch()
	defer stop()
	members, stopMembers := r.mesh.WatchMembers()
	defer stopMembers()
	var seen hostdb.Stamp
	told := false
	for {
		if item, ok := r.store.View().Get(hostdb.System, removedKey); ok && item.Revision() != seen {
			seen = item.Revision()
			for id := range item.Data().Keys() {
				r.mesh.Bar(id)
			}
		}
		if !told && r.self() {
			told = true
			r.agent.log.Error("this node was removed from the mesh: no member lets it in again", "node", r.agent.dir.nodeID, "remedy", remedyRemoved)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-members:
		}
	}
}

// self reports whether this node was removed, as far as it has heard.
func (r removals) self() bool {
	return r.mesh.CastOut() || r.store.View().Data(hostdb.System, removedKey).At(r.agent.dir.nodeID).Exists()
}

// problems are what status tells of this node's own removal.
func (r removals) problems() []api.Problem {
	if !r.self() {
		return nil
	}
	return []api.Problem{{
		Severity: api.SeverityError, Subject: "member", Text: "this node was removed from the mesh: no member lets it in again", Remedy: remedyRemoved,
	}}
}

// RemovedNodes implements api.Nodes.
func (r removals) RemovedNodes() []api.RemovedNode {
	list := []api.RemovedNode{}
	for id, doc := range r.store.View().Data(hostdb.System, removedKey).Keys() {
		n := api.RemovedNode{ID: id, Name: doc.Text("name"), By: doc.Text("by"), Reason: doc.Text("reason")}
		if at, err := time.Parse(time.RFC3339, doc.Text("at")); err == nil {
			n.At = &at
		}
		list = append(list, n)
	}
	slices.SortFunc(list, func(x, y api.RemovedNode) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return list
}

// RemoveNode implements api.Nodes.
func (r removals) RemoveNode(ctx context.Context, who api.Identity, node string, how api.RemoveNode) (api.NodeRemoved, error) {
	m, err := r.find(node)
	if err != nil {
		return api.NodeRemoved{}, err
	}
	out := api.NodeRemoved{ID: m.ID, Name: m.Name}
	switch {
	case m.ID == r.agent.dir.nodeID:
		return out, fmt.Errorf("remove node %s: %w: it is the one that is asked; ask another member", node, hostdb.ErrInvalid)
	case m.State == mesh.StateAlive && !how.Force:
		return out, fmt.Errorf("remove node %s: %w; stop its agent first, or remove it by force", node, api.ErrNodeAlive)
	}
	reason := how.Reason
	if reason == "" {
		reason = "removed by " + who.User
	}
	at := r.agent.clock.Now().UTC().Truncate(time.Second).Format(time.RFC3339)
	c, err := r.store.Update(ctx, hostdb.Request{User: who.User, Log: "remove node " + cmp.Or(m.Name, m.ID) + ": " + reason}, func(tx *hostdb.Tx) error {
		switch {
		case tx.View().Data(hostdb.System, removedKey).At(m.ID).Exists():
			return nil
		case !tx.Exists(hostdb.System, removedKey):
			if err := tx.Put(hostdb.System, removedKey, hostdb.Document{}); err != nil {
				return err
			}
		}
		leaf := func(name, value string) hostdb.Leaf {
			return hostdb.Leaf{Path: hostdb.PathOf(name), Value: hostdb.Text(value)}
		}
		return tx.PutPath(hostdb.System, removedKey, []string{m.ID},
			hostdb.NewDocument(leaf("at", at), leaf("by", who.User), leaf("name", m.Name), leaf("reason", reason)))
	})
	if err != nil {
		return out, fmt.Errorf("remove node %s: %w", node, err)
	}
	out.Acks = c.Acks
	if c.Changed() {
		out.Revision = c.Revision.String()
	}
	// Gossip tells those that are there at once; a live one would only contradict it.
	if err := r.mesh.Remove(m.ID); err != nil && !errors.Is(err, mesh.ErrAlive) {
		r.agent.log.Warn("gossip does not spread the removal; the others read it in HostDB", "node", m.ID, "err", err)
	}
	r.mesh.Bar(m.ID)
	r.agent.log.Warn("node removed", "node", m.ID, "name", m.Name, "user", who.User, "reason", reason)
	return out, nil
}

// find is the member with an id or a name. An id that nobody has is taken as it is: it may be one that this node has not met.
func (r removals) find(node string) (mesh.Member, error) {
	view := r.mesh.View()
	if m, ok := view.Get(node); ok {
		return m, nil
	}
	if validID(node) {
		return mesh.Member{ID: node}, nil
	}
	var found []mesh.Member
	for _, m := range view.Members() {
		if strings.EqualFold(m.Name, node) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		for _, n := range r.RemovedNodes() {
			if strings.EqualFold(n.Name, node) {
				return mesh.Member{ID: n.ID, Name: n.Name}, nil
			}
		}
		return mesh.Member{}, fmt.Errorf("node %q: %w: no member has this name or id; see hostmesh members", node, api.ErrNotFound)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, m := range found {
		ids = append(ids, fmt.Sprintf("%s (%s)", m.ID, m.State))
	}
	return mesh.Member{}, fmt.Errorf("node %q: %w: name it by its id: %s", node, api.ErrAmbiguous, strings.Join(ids, ", "))
}
