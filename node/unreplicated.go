package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// holders tells what other members hold; hostdb/replica implements it.
type holders interface {
	// HeldElsewhere is the newest operation of an origin that some other member is known to hold.
	HeldElsewhere(origin uint64) uint64
}

// WriteUnreplicated implements api.Keeper. What others hold is known as far as they have said so since the agent runs: one that
// has met nobody writes all it has.
func (k *keeper) WriteUnreplicated(ctx context.Context, w io.Writer) error {
	n, err := writeUnreplicated(ctx, w, k.agent.store, k.agent.replica)
	if err != nil {
		return err
	}
	k.agent.log.Info("unreplicated operations exported", "operations", n)
	return nil
}

func writeUnreplicated(ctx context.Context, w io.Writer, store *hostdb.Store, others holders) (n int, err error) {
	const piece = 1 << 20
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for origin, last := range store.View().Vector() {
		// What is not held one by one is elsewhere: retention drops what every member holds, and what was joined came from one.
		for after := min(max(others.HeldElsewhere(origin), store.LogStart(origin)), last); after < last; {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			raws, err := store.Operations(origin, after, piece)
			if err != nil {
				return n, fmt.Errorf("export: %w", err)
			}
			if len(raws) == 0 {
				break
			}
			for _, raw := range raws {
				op, err := hostdb.ParseOperation(raw)
				if err != nil {
					return n, fmt.Errorf("export: %w", err)
				}
				line := api.ExportedOperation{Revision: op.Stamp().String(), User: op.User, Log: op.Log, At: op.Time.Wall().UTC(), Raw: raw}
				if err := enc.Encode(line); err != nil {
					return n, err
				}
				after = op.Seq
				n++
			}
		}
	}
	return n, enc.Encode(api.ExportedOperation{End: true, Count: n})
}
