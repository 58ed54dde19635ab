package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/dnsd/transfer"
	"hostmesh/dnsd/zone"
	"hostmesh/dnsd/zonefile"
	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// deskTime bounds what compiles the past: a site of a hundred thousand hosts takes some seconds.
const deskTime = 25 * time.Second

// dnsDesk implements api.DNSDesk. It works where DNS is not served, too: zones follow from HostDB.
type dnsDesk struct {
	store   *hostdb.Store
	history history
	keys    *transfer.Keys
	opts    zone.Options
	served  func() *zone.Zones // what is answered now; nil before the first compilation, and where DNS is not served
	mesh    func() mesh.View
	turn    chan struct{} // one compilation at a time: each takes a processor and memory for all zones
	taken   prometheus.Observer
}

func (a *Agent) dnsDesk() *dnsDesk {
	opts := zone.DefaultOptions()
	opts.Domain = a.cfg.DNS.Domain
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hostmesh_dns_past_seconds",
		Help: "Time to compile zones of a past state for somebody who asked.", Buckets: prometheus.ExponentialBuckets(1e-3, 4, 8)})
	a.metrics.MustRegister(h)
	d := &dnsDesk{store: a.store, history: a.history(), keys: a.tsigKeys(), opts: opts, mesh: a.mesh.View, turn: make(chan struct{}, 1), taken: h}
	if a.dns != nil {
		d.served = a.dns.Zones
	}
	return d
}

// enter waits for the turn to compile, at most as long as ctx.
func (d *dnsDesk) enter(ctx context.Context) (done func(), err error) {
	select {
	case d.turn <- struct{}{}:
		return func() { <-d.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("others who ask about the past of DNS, or import zones, take all the time: %w", ctx.Err())
	}
}

// deskWait is how long is waited for the zones of what this replica has when it is asked: who has just written looks for it.
const deskWait = 500 * time.Millisecond

// now are the zones of the present: of all that this replica had when it was asked, unless compiling takes longer than deskWait.
func (d *dnsDesk) now() *zone.Zones {
	if d.served != nil {
		want := d.store.View().Version().String()
		for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			z := d.served()
			if z != nil && (z.Version() == want || z.Version() == d.store.View().Version().String() || time.Since(began) >= deskWait) {
				return z
			}
			if time.Since(began) >= deskWait {
				break
			}
		}
	}
	return zone.Compile(d.store.View(), d.mesh(), d.opts)
}

// past compiles the zones as of a revision or time. Of the mesh nothing is known then: live names leave nobody out but those
// that are retired. The caller has the turn.
func (d *dnsDesk) past(ctx context.Context, at string) (*zone.Zones, hostdb.Stamp, error) {
	cut, err := d.history.cut(ctx, at)
	if err != nil {
		return nil, cut, err
	}
	view, err := d.store.At(ctx, cut)
	if err != nil {
		return nil, cut, err
	}
	begin := time.Now()
	z := zone.Compile(view, mesh.View{}, d.opts)
	d.taken.Observe(time.Since(begin).Seconds())
	return z, cut, nil
}

// errNoZone says which zones there are near.
func errNoZone(name string) error {
	return fmt.Errorf("zone %q: %w (hostmesh dns zones lists them)", name, api.ErrNotFound)
}

// DNSProblems implements api.DNSDesk.
func (d *dnsDesk) DNSProblems(name string) (api.DNSCheck, error) {
	z := d.now()
	out := api.DNSCheck{Version: z.Version()}
	if name != "" {
		if _, ok := z.Info(name + "."); !ok {
			return out, errNoZone(name)
		}
		out.Zones = 1
	} else {
		out.Zones = len(z.Infos())
	}
	for _, p := range z.Problems() {
		at := strings.TrimSuffix(p.Zone, ".")
		if name != "" && at != name {
			continue
		}
		one := api.DNSProblem{Zone: at, Severity: api.SeverityError, Key: p.Key, Name: strings.TrimSuffix(p.Name, "."), Reason: p.Reason}
		if p.Served {
			one.Severity = api.SeverityWarning
		}
		out.Problems = append(out.Problems, one)
	}
	return out, nil
}

// DNSDiff implements api.DNSDesk.
func (d *dnsDesk) DNSDiff(ctx context.Context, name, from, to string) (api.DNSDiff, error) {
	ctx, cancel := context.WithTimeout(ctx, deskTime)
	defer cancel()
	out := api.DNSDiff{Zone: name, From: from, To: to}
	leave, err := d.enter(ctx)
	if err != nil {
		return out, err
	}
	defer leave()
	was, cut, err := d.past(ctx, from)
	if err != nil {
		return out, err
	}
	cuts := []hostdb.Stamp{cut}
	var now *zone.Zones
	if to == "" {
		out.To = "now"
		now = zone.Compile(d.store.View(), mesh.View{}, d.opts) // as the past is: without what the mesh knows
	} else {
		if now, cut, err = d.past(ctx, to); err != nil {
			return out, err
		}
		cuts = append(cuts, cut)
	}
	origin := name + "."
	_, before := was.Info(origin)
	info, after := now.Info(origin)
	if !before && !after {
		return out, errNoZone(name)
	}
	out.Compared = info.Records
	removed, added := now.Diff(was, origin)
	soaWas, soaNow := now.DiffSOA(was, origin)
	out.Removed, out.Added = zone.Texts(append(soaWas, removed...)), zone.Texts(append(soaNow, added...))
	out.Settled = d.history.settledAt(cuts...)
	return out, nil
}

// DNSCompare implements api.DNSDesk.
func (d *dnsDesk) DNSCompare(ctx context.Context, q api.DNSCompareQuery) (api.DNSDiff, error) {
	ctx, cancel := context.WithTimeout(ctx, deskTime)
	defer cancel()
	out := api.DNSDiff{Zone: q.Zone, From: q.Server, To: "here"}
	z := d.now()
	origin := q.Zone + "."
	if _, ok := z.Info(origin); !ok {
		return out, errNoZone(q.Zone)
	}
	theirs, err := d.keys.Fetch(ctx, q.Server, origin, q.Key)
	if err != nil {
		return out, fmt.Errorf("%w: %w", api.ErrUpstream, err)
	}
	c := transfer.Compare(z, origin, theirs)
	out.Removed, out.Added, out.LeftOut, out.Compared = zone.Texts(c.There), zone.Texts(c.Here), c.LeftOut, c.Ours
	for _, pair := range c.TTLs {
		out.TTLs = append(out.TTLs, fmt.Sprintf("%s ; %d", strings.ReplaceAll(pair[0].String(), "\t", " "), pair[1].Header().Ttl))
	}
	slices.Sort(out.TTLs)
	return out, nil
}

// mayImport reports why somebody may not make the section DNS of a tag, before anything costly is done for them. The write
// checks again, and the hosts too.
func (d *dnsDesk) mayImport(req hostdb.Request, tag string) error {
	view := d.store.View()
	err := req.Allow(view, hostdb.Tags, tag, hostdb.Data)
	if err != nil && req.Allow(view, hostdb.Tags, tag, hostdb.Section("DNS")) == nil {
		return nil
	}
	return err
}

// DNSImport implements api.DNSDesk.
func (d *dnsDesk) DNSImport(ctx context.Context, who api.Identity, file []byte, opts api.DNSImportOptions) (api.DNSImportReport, error) {
	req := request(who, opts.Log)
	if tag := cmp.Or(opts.Tag, opts.Zone); tag != "" { // else the file says
		if err := d.mayImport(req, tag); err != nil {
			return api.DNSImportReport{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, deskTime)
	defer cancel()
	leave, err := d.enter(ctx)
	if err != nil {
		return api.DNSImportReport{}, err
	}
	defer leave()
	f, err := zonefile.Read(ctx, file, opts.Zone)
	if err != nil {
		return api.DNSImportReport{}, err
	}
	if err := d.mayImport(req, cmp.Or(opts.Tag, strings.TrimSuffix(f.Origin, "."))); err != nil {
		return api.DNSImportReport{}, err
	}
	p, err := zonefile.Make(d.store.View(), f, opts.Tag)
	if err != nil {
		return api.DNSImportReport{}, err
	}
	out := api.DNSImportReport{Zone: p.Zone, Tag: p.Tag, Records: len(f.Records), Known: p.Known, Names: p.Names, Problems: p.Problems, DryRun: opts.DryRun}
	for key := range p.Hosts {
		out.Hosts = append(out.Hosts, key)
	}
	slices.Sort(out.Hosts)
	if strings.TrimSpace(req.Log) == "" {
		req.Log = "import of the zone " + p.Zone
	}
	req.DryRun, req.EvenReadOnly = opts.DryRun, opts.DryRun // who may not write it is told so before, too
	commit, err := d.store.Update(ctx, req, p.Write)
	if err != nil {
		return out, fmt.Errorf("import of the zone %s: nothing was written: %w", p.Zone, err)
	}
	if commit.Changed() && !opts.DryRun {
		out.Revision, out.Acks = commit.Revision.String(), commit.Acks
	}
	return out, nil
}
