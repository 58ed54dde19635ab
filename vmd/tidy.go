package vmd

import (
	"context"
	"errors"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh/lease"
)

// tidy removes what the lease log has of machines that nobody wants and no box has.
func (p *Placer) tidy(ctx context.Context, office Office) error {
	p.mu.Lock()
	p.index.Update(p.db)
	db := p.db
	p.mu.Unlock()
	wanted := func(uuid string) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.index.ByUUID(uuid)) > 0 || p.flight[uuid] != nil
	}
	list, err := p.cfg.Records.List(ctx, recordPrefix)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, raw := range list.Records {
		r, err := decodeRecord(raw.Value)
		if err != nil {
			known[strings.TrimPrefix(raw.Key, recordPrefix)] = true
			continue
		}
		known[r.UUID] = true
		was := db.WasDeleted(hostdb.Hosts, r.Name) || db.Exists(hostdb.Hosts, r.Name)
		over := r.State == Refused || r.State == Offered && p.cfg.Clock.Now().After(time.UnixMilli(r.Expires).Add(2*p.cfg.OfferTime))
		// What a removed node took is nobody's. Where its entry stands a person decides: the disks may be missed.
		over = over || r.State == Taken && p.cfg.Removed != nil && p.cfg.Removed(db, r.Node)
		if !was || !over || wanted(r.UUID) || !office.Valid() {
			continue
		}
		// The name goes first: a record that is left finds it again.
		if err := p.cfg.Records.FreeName(ctx, NameSpace, r.Name, r.UUID); err != nil {
			return err
		}
		if r.State == Taken {
			p.log.Warn("the record of a deleted machine goes: the node that had it was removed from the mesh", "vm", r.Name, "uuid", r.UUID, "box", r.Box)
			known[r.UUID] = false
		}
		if err := p.cfg.Records.Delete(ctx, raw.Key, raw.Version); err != nil && !errors.Is(err, lease.ErrConflict) && !errors.Is(err, lease.ErrNotFound) {
			return err
		}
	}
	for _, space := range []string{NameSpace, addrSpace} {
		prefix := "name/" + space + "/"
		claims, err := p.cfg.Records.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, c := range claims.Records {
			if uuid := string(c.Value); !known[uuid] && !wanted(uuid) && office.Valid() {
				if err := p.cfg.Records.FreeName(ctx, space, strings.TrimPrefix(c.Key, prefix), uuid); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
