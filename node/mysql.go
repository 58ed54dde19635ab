package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/local"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
)

const (
	// mysqlDuty is the kind of the duties of database clusters, in the knob duties.
	mysqlDuty = "mysql"
	// credentialsDir is where accounts of database clusters lie: HostDB names a file, no more.
	credentialsDir = "/etc/hostmesh/credentials.d"
	// databasesDir is of the data directory: what this box was ordered to do with its database servers.
	databasesDir = "mysql"
)

// databases are this agent's part in database clusters.
type databases struct {
	daemon *mysqlha.Daemon
	// beside is the agent beside the servers of this box; nil under --observe, which touches none.
	beside *besideServers
}

// openMySQL makes what watches over clusters, and what is beside the servers of this box. That there is none, and no account, is no reason not to run.
func (a *Agent) openMySQL() error {
	dir := cmp.Or(a.cfg.MySQL.Credentials, credentialsDir)
	calls := hostCalls{a.mesh}
	cfg := mysqlha.Config{
		Node: a.dir.nodeID, Name: a.cfg.Name, Datacenter: a.cfg.Labels.Datacenter, Mesh: a.mesh, Observe: a.cfg.Observe, Logger: a.log,
		Records: func(g mysqlha.Grant) mysqlha.Records { return a.clusterRecords(g) },
		Usable: func(name string) string {
			if _, err := credentials.Load(dir, name); err != nil {
				return err.Error()
			}
			return ""
		},
	}
	cfg.Open = func(tag, name string) (mysqlha.Effects, error) {
		var own mysqlha.Local
		if a.mysql.beside != nil {
			own = a.mysql.beside.host
		}
		return newClusterWorld(a.cfg.Name, own, calls, func() (credentials.File, error) { return credentials.Load(dir, name) }, a.store.View, a.log.With("tag", tag))
	}
	if a.lease != nil && !a.onLoopback() { // what only tries things takes no part in these duties, not even to say why
		cfg.Lease = clusterGrants{a.lease}
	}
	switch {
	case a.onLoopback():
		cfg.Unfit = "its own address is a loopback one, so it watches over no database of a network"
	case !a.cfg.may(mysqlDuty):
		cfg.Unfit = "duties in its configuration leaves mysql out"
	}
	var err error
	if a.mysql.daemon, err = mysqlha.Open(cfg); err != nil {
		return err
	}
	a.loop.add(a.mysql.daemon, false)
	a.serveMySQL()
	if a.cfg.Observe {
		return nil
	}
	return a.openBeside(dir, calls)
}

// openBeside makes the agent beside the servers of this box.
func (a *Agent) openBeside(dir string, calls hostCalls) error {
	own := a.dir.file(databasesDir)
	if err := os.Mkdir(own, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	lc := local.DefaultConfig()
	lc.Dir, lc.Donors, lc.Logger, lc.Clock = own, local.PeerDonors{Mesh: calls}, a.log, a.clock
	lc.Publish = func(tag string, m *report.MySQL) {
		a.mesh.Report(func(r *report.Report) {
			next := maps.Clone(r.MySQL)
			if m == nil {
				delete(next, tag)
			} else {
				if next == nil {
					next = map[string]report.MySQL{}
				}
				next[tag] = *m
			}
			r.MySQL = next
		})
	}
	if a.lease != nil {
		lc.Addresses = a.lb.addresses
		lc.Tenure = func(m local.Member, epoch uint64) local.Tenure {
			records := &mysqlha.Connected{Records: clusterRecords{log: a.lease}, Own: m.SQL, State: func(ctx context.Context, host, tag string) (mysqlha.LocalState, error) {
				return local.NewRemote(calls, host).State(ctx, tag)
			}}
			return mysqlha.NewTenure(m.Tag, m.Host, epoch, records, func(ctx context.Context) (int, bool) { return records.Ackers(ctx, m.Tag) }, a.log)
		}
	}
	host, err := local.Open(lc)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, host.Close)
	b := &besideServers{name: a.cfg.Name, dir: dir, host: host, log: a.log, members: map[string]besideServer{}}
	a.closers = append(a.closers, b.Close)
	a.mysql.beside = b
	a.loop.add(b, false)
	a.mesh.Handle(local.CallLocal, func(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) { return host.ServeLocal(ctx, req) })
	a.mesh.Handle(local.CallClone, func(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) { return host.ServeClone(ctx, req) })
	if a.virt != nil {
		a.mesh.Handle(callFence, func(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
			if a.lease == nil {
				return nil, errors.New("this agent takes no part in duties")
			}
			return nil, fence(ctx, a.store.View(), clusterRecords{log: a.lease}, a.virt, req)
		})
	}
	return nil
}

// clusterGrants implements mysqlha.Lease.
type clusterGrants struct{ *lease.Lease }

func (l clusterGrants) Campaign(ctx context.Context, duty string, hold func(context.Context, mysqlha.Grant) error) error {
	return l.Lease.Campaign(ctx, duty, func(ctx context.Context, g *lease.Grant) error { return hold(ctx, grant{g}) })
}

// clusterRecords are those that may be written under a grant; without one they are only read.
func (a *Agent) clusterRecords(g mysqlha.Grant) mysqlha.Records {
	if a.lease == nil {
		return noRecords{a.leaseErr}
	}
	held, _ := g.(grant)
	return clusterRecords{log: a.lease, grant: held.Grant}
}

// noRecords implements mysqlha.Records where this node takes no part in duties.
type noRecords struct{ err error }

func (n noRecords) Load(context.Context, string) (mysqlha.Record, uint64, error) {
	return mysqlha.Record{}, 0, fmt.Errorf("this node takes no part in duties: %w", n.err)
}

func (n noRecords) Store(context.Context, string, mysqlha.Record, uint64) (uint64, error) {
	return 0, fmt.Errorf("this node takes no part in duties: %w", n.err)
}

// besideServers is the daemon that has the agent beside the servers of this box follow HostDB: which clusters this host is a member of.
type besideServers struct {
	name string // key of this host
	dir  string // of credentials
	host *local.Host
	log  *slog.Logger

	mu      sync.Mutex // guards the fields below
	members map[string]besideServer
	wrong   map[string]string // tag -> why its server here cannot be led
}

// besideServer is a member, and what it was made from.
type besideServer struct {
	member local.Member
	file   credentials.File
	addr   netip.Addr
}

// Name implements Daemon.
func (b *besideServers) Name() string { return "mysql-local" }

// Reconcile implements Daemon.
func (b *besideServers) Reconcile(_ context.Context, db hostdb.View, _ mesh.View) error {
	next, wrong, old := map[string]besideServer{}, map[string]string{}, []mysqlha.Server{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, tag := range db.Parents(b.name, hostdb.Tags) {
		my, _ := section.MySQLOf(db.Data(hostdb.Tags, tag))
		if my == nil || my.Credentials == "" {
			continue
		}
		file, err := credentials.Load(b.dir, my.Credentials)
		switch {
		case errors.Is(err, credentials.ErrNone):
			wrong[tag] = err.Error()
			continue
		case err != nil:
			// What could be read before goes on: a slip of an editor must not leave a server without its agent.
			if was, ok := b.members[tag]; ok {
				next[tag] = was
			}
			wrong[tag] = err.Error()
			continue
		case file.Server == nil:
			wrong[tag] = fmt.Sprintf("credentials.d/%s.yaml names no server of this box, which is a member of tags/%s", my.Credentials, tag)
			continue
		}
		addr := mysqlha.AddressOf(db.Data(hostdb.Hosts, b.name), my.VIP)
		if !addr.IsValid() {
			wrong[tag] = fmt.Sprintf("hosts/%s has no Network/IP", b.name)
			continue
		}
		if my.Port != 0 && file.Server.Port != my.Port {
			wrong[tag] = fmt.Sprintf("the server of this box listens on port %d by credentials.d/%s.yaml, and clients of tags/%s ask at port %d (MySQL/Port)", file.Server.Port, my.Credentials, tag, my.Port)
		}
		m := local.Member{Tag: tag, Host: b.name, VIP: my.VIP.Unmap(), MaxLag: my.MaxLag, Server: *file.Server, Backup: file.Backup}
		was, known := b.members[tag]
		if known && was.addr == addr && reflect.DeepEqual(was.file, file) {
			m.SQL = was.member.SQL
		} else {
			s, err := mariadb.Open(mariadb.DefaultConfig(addr, int(file.Server.Port), file))
			if err != nil {
				wrong[tag] = err.Error()
				if known {
					next[tag] = was
				}
				continue
			}
			m.SQL = s
		}
		next[tag] = besideServer{m, file, addr}
	}
	list := make([]local.Member, 0, len(next))
	for _, x := range next {
		list = append(list, x.member)
	}
	err := b.host.Apply(list)
	for tag, was := range b.members {
		if now, stays := next[tag]; !stays || now.member.SQL != was.member.SQL {
			old = append(old, was.member.SQL)
		}
	}
	for tag, why := range wrong {
		if b.wrong[tag] != why {
			b.log.Warn("a database server of this box is not led", "tag", tag, "reason", why)
		}
	}
	b.members, b.wrong = next, wrong
	errs := []error{err}
	for _, s := range old {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Close ends connections; servers go on. It is idempotent.
func (b *besideServers) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, x := range b.members {
		errs = append(errs, x.member.SQL.Close())
	}
	b.members = map[string]besideServer{}
	return errors.Join(errs...)
}

// problems are why servers of this box are not led, by tag.
func (b *besideServers) problems() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.wrong)
}

// servers are how many this box has.
func (b *besideServers) servers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.members)
}

func (d *databases) collectors() []prometheus.Collector {
	if d.daemon == nil {
		return nil
	}
	list := []prometheus.Collector{d.daemon.Collector()}
	if d.beside != nil {
		list = append(list, d.beside.host.Collector())
	}
	return list
}

// mysqlNote is what this node does for database clusters; idle is why it does nothing.
func (a *Agent) mysqlNote() (note, idle string) {
	states := a.mysql.daemon.State()
	var holds []string
	refusal := ""
	for _, s := range states {
		switch {
		case s.Held && s.Picture != nil:
			holds = append(holds, fmt.Sprintf("%s (fence %d, %s)", s.Tag, s.Fence, s.Picture.Diagnoses[0].Name))
		case s.Held:
			holds = append(holds, fmt.Sprintf("%s (fence %d)", s.Tag, s.Fence))
		case s.Refusal != "" && refusal == "":
			refusal = s.Refusal
		}
	}
	switch {
	case len(states) == 0:
		return "", "no tag has a section MySQL"
	case len(holds) > 0:
		return "watches over " + strings.Join(holds, ", "), ""
	case refusal != "":
		return "", "it watches over no database cluster: " + refusal
	}
	return "", fmt.Sprintf("other nodes watch over the %s", countOf(len(states), "database cluster", "database clusters"))
}

// besideNote is how many servers this box has.
func (a *Agent) besideNote() (note, idle string) {
	if n := a.mysql.beside.servers(); n > 0 {
		return "is beside " + countOf(n, "database server", "database servers"), ""
	}
	return "", "this host is a member of no database cluster"
}
