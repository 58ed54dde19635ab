package node

import (
	"context"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

// replicaPeers shows the mesh to the replica.
type replicaPeers struct{ *mesh.Mesh }

// Alive implements replica.Peers.
func (p replicaPeers) Alive() []string {
	var ids []string
	for m := range p.View().Alive() {
		if !m.Self {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Handle implements replica.Peers.
func (p replicaPeers) Handle(name string, h func(ctx context.Context, from string, req []byte) ([]byte, error)) {
	p.Mesh.Handle(name, func(ctx context.Context, from mesh.Caller, req []byte) ([]byte, error) {
		return h(ctx, from.ID, req)
	})
}

// Changed implements replica.Peers.
func (p replicaPeers) Changed() (<-chan struct{}, func()) { return p.WatchMembers() }

// settled reports whether nothing can arrive any more that changes the state as of a stamp.
func (a *Agent) settled(cut hostdb.Stamp) bool {
	var others []string
	for _, m := range a.mesh.View().Members() {
		if !m.Self {
			others = append(others, m.ID)
		}
	}
	return a.replica.Settled(cut, others)
}
