package node

import (
	"context"

	"hostmesh/dnsd/zone"
	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// DNSLookup implements api.DNSDesk.
func (d *dnsDesk) DNSLookup(ctx context.Context, name, typ, at string) (api.DNSLookup, error) {
	ctx, cancel := context.WithTimeout(ctx, deskTime)
	defer cancel()
	out := api.DNSLookup{Name: name, At: at}
	var z *zone.Zones
	var cut hostdb.Stamp // zero: now
	if at == "" {
		z = d.now()
		out.Version = z.Version()
	} else {
		leave, err := d.enter(ctx)
		if err != nil {
			return out, err
		}
		defer leave()
		if z, cut, err = d.past(ctx, at); err != nil {
			return out, err
		}
		out.Settled = d.history.settledAt(cut)
	}
	r, err := z.Ask(name, typ)
	if err != nil {
		return out, err
	}
	out.Type, out.Zone, out.Rcode, out.Authoritative = r.Type, r.Zone, r.Rcode, r.Authoritative
	out.Answer, out.Authority, out.Additional = r.Answer, r.Authority, r.Additional
	out.Changed, err = d.lastChange(ctx, z.Scopes(name), cut)
	return out, err
}

// lastChange is the newest revision until cut that touched one of these places; nil when there is none. The zero cut is now.
func (d *dnsDesk) lastChange(ctx context.Context, places []hostdb.Scope, cut hostdb.Stamp) (*api.Revision, error) {
	var before hostdb.Stamp
	if !cut.IsZero() {
		before = next(cut)
	}
	var newest *hostdb.Revision
	for _, sc := range places {
		list, _, err := d.store.Revisions(ctx, hostdb.RevisionQuery{Scope: sc, Before: before, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(list) > 0 && (newest == nil || newest.ID.Less(list[0].ID)) {
			newest = &list[0]
		}
	}
	if newest == nil {
		return nil, nil
	}
	rev := readable(*newest)
	rev.Changes = []api.RevisionChange{}
	return &rev, nil
}

// next is the stamp right after s.
func next(s hostdb.Stamp) hostdb.Stamp {
	if s.Origin++; s.Origin == 0 {
		s.Time++
	}
	return s
}

// DNSExplain implements api.DNSDesk.
func (d *dnsDesk) DNSExplain(name string) (api.DNSExplanation, error) {
	e, err := d.now().Explain(name)
	out := api.DNSExplanation{Name: e.Name, Zone: e.Zone, Kind: e.Kind, At: e.At, Tag: e.Tag, All: e.All, Frozen: e.Frozen}
	for _, m := range e.Members {
		one := api.DNSMember{Host: m.Host, Addresses: []string{}, In: m.In, Why: m.Why}
		for _, a := range m.Addresses {
			one.Addresses = append(one.Addresses, a.String())
		}
		out.Members = append(out.Members, one)
	}
	for _, r := range e.Records {
		out.Records = append(out.Records, api.DNSRecord{Record: r.Record, Key: r.Key, Answered: r.Answered})
	}
	return out, err
}
