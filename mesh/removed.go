package mesh

// Bar keeps a node out for good, as Remove does, but here alone and also when it is alive: its connections end, it leaves the view
// and the peer list, and its id is not accepted again. Whoever keeps the list of removed nodes for the whole mesh calls it on each
// member. This node's own id is left alone: see CastOut. It is harmless to repeat. Ids that are none are ignored.
func (m *Mesh) Bar(nodeID string) {
	if !validID(nodeID) || nodeID == m.cfg.NodeID || m.peers.isRemoved(nodeID) {
		return
	}
	m.forget(nodeID, m.cfg.Clock.Now())
	m.board.change(func(members map[string]Member) bool {
		_, known := members[nodeID]
		delete(members, nodeID)
		return known
	})
}

// Barred reports whether a node's id is not accepted here.
func (m *Mesh) Barred(nodeID string) bool { return m.peers.isRemoved(nodeID) }

// CastOut reports whether another member has refused this node since it runs, because it was removed from the mesh.
func (m *Mesh) CastOut() bool { return m.streams.castOut.Load() }
