package mesh

import "context"

// MetaSize returns the size of the member metadata as serf made it, and as tagsSize foretells it.
func MetaSize(m *Mesh) (real, foretold int) {
	return len(m.serf.Load().Memberlist().LocalNode().Meta), tagsSize(encodeTags(&m.cfg, m.cfg.StreamPort))
}

// OpenStreams opens so many streams to a member, as a member would that does not keep to one.
func OpenStreams(ctx context.Context, m *Mesh, to Member, n int) error {
	for range n {
		c, _, err := m.streams.greet(ctx, to.Stream(), to.ID)
		if err != nil {
			return err
		}
		if !m.streams.opens(c) {
			return ErrClosed
		}
	}
	return nil
}
