package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"hostmesh/dnsd"
	"hostmesh/dnsd/transfer"
	"hostmesh/dnsd/zone"
	"hostmesh/node/api"
)

// maxDNSProblems bounds what status tells of names that cannot be served; metrics count them all.
const maxDNSProblems = 10

// openDNS binds DNS and puts it into the loop. It only answers, so it works under observe as well.
func (a *Agent) openDNS() error {
	if a.cfg.DNS.Listen == NoListener {
		return nil
	}
	cfg := dnsd.DefaultConfig()
	cfg.Listen, cfg.Zone.Domain = a.cfg.DNS.Listen, a.cfg.DNS.Domain
	cfg.Dir, cfg.Peers, cfg.Logger = a.dir.path, a.mesh, a.log
	a.transfers = a.newTransfers()
	cfg.Transfers, cfg.Publishing, cfg.Published = a.transfers, a.transfers.Publish, a.transfers.Served
	if a.cfg.DNS.Identify {
		cfg.Version, cfg.Hostname = "hostmesh "+a.cfg.Build.Version, a.cfg.Name
	}
	d, err := dnsd.Open(cfg)
	if err != nil {
		return err
	}
	a.dns = d
	a.closers = append(a.closers, d.Close)
	a.loop.add(d, true)
	return nil
}

// tsigKeys are the TSIG keys of the mesh. Without a mesh key there are none.
func (a *Agent) tsigKeys() *transfer.Keys {
	if a.sealer == nil {
		return transfer.NewKeys(a.store, nil)
	}
	return transfer.NewKeys(a.store, a.sealer)
}

// newTransfers makes what answers zone transfers. Secondaries are told from the address that DNS answers on: they know
// their primaries by it.
func (a *Agent) newTransfers() *transfer.Service {
	cfg := transfer.DefaultConfig()
	cfg.Keys, cfg.View, cfg.Peers, cfg.Logger = a.tsigKeys(), a.mesh.View, a.mesh, a.log
	if ap, err := netip.ParseAddrPort(a.cfg.DNS.Listen); err == nil && !ap.Addr().IsUnspecified() {
		cfg.Source = ap.Addr()
	}
	return transfer.New(cfg)
}

// runDNS compiles the zones before the first query is read, so that nobody is told SERVFAIL by an agent that starts. The
// loop reports what goes wrong with that.
func (a *Agent) runDNS(ctx context.Context) error {
	_ = a.dns.Reconcile(ctx, a.store.View(), a.mesh.View())
	return a.dns.Run(ctx)
}

func (a *Agent) dnsListeners() []api.ListenerStatus {
	if a.dns == nil {
		return nil
	}
	return []api.ListenerStatus{{Name: "dns", Addr: a.dns.Addr().String()}}
}

// dnsProblems are what stands in HostDB and cannot be served as it was written.
func (a *Agent) dnsProblems() []api.Problem {
	if a.dns == nil {
		return nil
	}
	var list []api.Problem
	all := a.dns.Status().Problems
	for _, p := range all[:min(len(all), maxDNSProblems)] {
		list = append(list, api.Problem{
			Severity: api.SeverityNotice, Subject: "dns", Text: strings.TrimSpace(fmt.Sprintf("%s: %s %s", p.Key, p.Name, p.Reason)),
			Remedy: "correct " + p.Key,
		})
	}
	if more := len(all) - len(list); more > 0 {
		list = append(list, api.Problem{Severity: api.SeverityNotice, Subject: "dns", Text: fmt.Sprintf("%d more names cannot be served as they were written", more)})
	}
	return append(list, a.secondaryProblems()...)
}

// secondaryProblems are the secondaries that this node tells of changes and that do not follow.
func (a *Agent) secondaryProblems() []api.Problem {
	var list []api.Problem
	more := 0
	for _, s := range a.transfers.Secondaries() {
		if !a.transfers.Late(s) {
			continue
		}
		if len(list) == maxDNSProblems {
			more++
			continue
		}
		p := api.Problem{Severity: api.SeverityError, Subject: "dns", Remedy: "look at its log; it must take the zone, and NOTIFY, from every agent: docs/dns.md, Secondaries"}
		where := fmt.Sprintf("secondary %s of %s", s.Addr, strings.TrimSuffix(s.Zone, "."))
		since := a.clock.Now().Sub(s.Since).Round(time.Second)
		switch {
		case s.State == transfer.SecondarySilent:
			p.Text = fmt.Sprintf("%s has not acknowledged serial %d for %s: %s", where, s.Serial, since, s.Error)
		case s.Known:
			p.Text = fmt.Sprintf("%s has serial %d, and %d is served here for %s", where, s.Has, s.Serial, since)
		default:
			p.Text = fmt.Sprintf("%s acknowledged serial %d %s ago and cannot be asked whether it has it: %s", where, s.Serial, since, s.Error)
		}
		list = append(list, p)
	}
	if more > 0 {
		list = append(list, api.Problem{Severity: api.SeverityError, Subject: "dns", Text: fmt.Sprintf("%d more secondaries do not follow", more)})
	}
	return list
}

// zones implements api.Zones; nil when DNS is not served.
func (a *Agent) zones() api.Zones {
	if a.dns == nil {
		return nil
	}
	return dnsZones{a.dns}
}

type dnsZones struct{ dns *dnsd.Server }

func (z dnsZones) Zones() []api.Zone {
	var list []api.Zone
	for _, i := range z.dns.Status().Zones {
		list = append(list, api.Zone{Name: strings.TrimSuffix(i.Origin, "."), Serial: i.Serial, Records: i.Records, Live: i.Live})
	}
	return list
}

func (z dnsZones) WriteZone(w io.Writer, name string) error {
	zones := z.dns.Zones()
	if zones == nil {
		return fmt.Errorf("%w: no zones are compiled yet", api.ErrNotFound)
	}
	err := zones.WriteZone(w, name+".")
	if errors.Is(err, zone.ErrNoZone) {
		return fmt.Errorf("%w: %w", api.ErrNotFound, err)
	}
	return err
}

// dnsQueries implements api.DNSQueries; nil when DNS is not served.
func (a *Agent) dnsQueries() api.DNSQueries {
	if a.dns == nil {
		return nil
	}
	return dnsZones{a.dns}
}

func (z dnsZones) DNSTop() api.DNSTop {
	top := api.DNSTop{Queries: []api.DNSQueryCount{}, Askers: []api.DNSAsker{}}
	for _, q := range z.dns.Queries() {
		top.Queries = append(top.Queries, api.DNSQueryCount{Zone: strings.TrimSuffix(q.Zone, "."), Type: q.Type, Rcode: q.Rcode, Queries: q.Count})
	}
	for _, a := range z.dns.Askers() {
		top.Askers = append(top.Askers, api.DNSAsker{Addr: a.Addr.String(), Queries: a.Questions, Error: a.Error})
	}
	return top
}
