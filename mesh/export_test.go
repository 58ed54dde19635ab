package mesh

// MetaSize returns the size of the member metadata as serf made it, and as tagsSize foretells it.
func MetaSize(m *Mesh) (real, foretold int) {
	return len(m.serf.Load().Memberlist().LocalNode().Meta), tagsSize(encodeTags(&m.cfg, m.cfg.StreamPort))
}
