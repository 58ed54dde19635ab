package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"hostmesh/dnsd"
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
