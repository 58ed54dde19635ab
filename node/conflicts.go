package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// alsoShown is how many other keys of a loser's revision are named.
const alsoShown = 20

// Conflicts implements api.Conflicts.
func (h history) Conflicts(ctx context.Context, ns string, limit int) (list []api.Conflict, more bool, err error) {
	view := h.store.View()
	if ns != "" && !view.HasNamespace(ns) {
		return nil, false, fmt.Errorf("%w: %s", hostdb.ErrNoNamespace, ns)
	}
	for c := range view.AllConflicts() {
		if c.NS == hostdb.System || ns != "" && c.NS != ns {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, h.conflict(c))
	}
	return list, false, nil
}

func (h history) conflict(c hostdb.Conflict) api.Conflict {
	out := api.Conflict{ID: c.NS + "/" + c.Key, What: string(c.What), Path: c.At}
	winner, loser, err := h.store.Sides(c)
	if err != nil { // history does not hold both any more: the stamps tell when it was
		out.Winner = api.ConflictSide{Revision: c.Winner.String(), Time: c.Winner.Time.Wall().UTC()}
		out.Loser = api.ConflictSide{Revision: c.Loser.String(), Time: c.Loser.Time.Wall().UTC()}
		return out
	}
	out.Winner, out.Loser = conflictSide(winner), conflictSide(loser)
	for i := range loser.Revision.Effects {
		x := &loser.Revision.Effects[i]
		id := x.NS + "/" + x.Key
		if x.NS == hostdb.System || x.Key == "" || id == out.ID || slices.Contains(out.Loser.Also, id) {
			continue
		}
		if len(out.Loser.Also) == alsoShown {
			break
		}
		out.Loser.Also = append(out.Loser.Also, id)
	}
	return out
}

func conflictSide(s hostdb.Side) api.ConflictSide {
	side := api.ConflictSide{Revision: s.Revision.ID.String(), User: s.Revision.User, Time: s.Revision.At.UTC(), Log: s.Revision.Log, Held: !s.Dropped}
	if !s.Gone && !s.Dropped {
		value := strings.TrimSuffix(s.Value, "\n")
		side.Value = &value
	}
	return side
}
