package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/node/api"
)

// callMySQL asks the node that watches over a cluster: a mysqlQuestion, answered by a mysqlAnswer, in JSON.
const callMySQL = "mysql.desk.1"

// mysqlQuestion is what is asked, or is to be done. Peers of the mesh ask; whether By may was decided by them.
type mysqlQuestion struct {
	What  string `json:"what"`
	Tag   string `json:"tag"`
	By    string `json:"by,omitempty"`
	Log   string `json:"log,omitempty"`
	Host  string `json:"host,omitempty"` // primary, to, or who rejoins
	From  string `json:"from,omitempty"`
	Apply bool   `json:"apply,omitempty"`
	Force bool   `json:"force,omitempty"`
}

// mysqlAnswer is what came of it. Code is one of mysqlCodes; "" = no error.
type mysqlAnswer struct {
	Code    string            `json:"code,omitempty"`
	Text    string            `json:"text,omitempty"`
	Cluster *api.MySQLCluster `json:"cluster,omitempty"`
	Check   *api.MySQLCheck   `json:"check,omitempty"`
	Lines   []string          `json:"lines,omitempty"`
	Done    *mysqlha.Done     `json:"done,omitempty"`
}

// mysqlCodes are the errors that cross.
var mysqlCodes = map[string]error{"state": api.ErrMySQLState, "away": api.ErrMySQLAway, "failed": errMySQLFailed}

// errMySQLFailed is what went wrong elsewhere; the text says what.
var errMySQLFailed = errors.New("the node that watches over the cluster could not do it")

// clusterDuties tells who holds duties: *lease.Lease.
type clusterDuties interface {
	Duties(ctx context.Context) ([]lease.Status, error)
}

// mysqlDesk implements api.MySQL.
type mysqlDesk struct {
	view    func() hostdb.View
	daemon  *mysqlha.Daemon
	net     lbMesh
	self    string
	log     *slog.Logger
	duties  clusterDuties // nil = this node takes no part in duties
	records mysqlha.Records
	file    func(name string) (credentials.File, error)
	observe bool
}

func (a *Agent) mysqlDesk() *mysqlDesk {
	dir := cmp.Or(a.cfg.MySQL.Credentials, credentialsDir)
	d := &mysqlDesk{
		view: a.store.View, daemon: a.mysql.daemon, net: a.mesh, self: a.dir.nodeID, log: a.log, records: a.clusterRecords(nil), observe: a.cfg.Observe,
		file: func(name string) (credentials.File, error) { return credentials.Load(dir, name) },
	}
	if a.lease != nil {
		d.duties = a.lease
	}
	return d
}

// serveMySQL answers other nodes.
func (a *Agent) serveMySQL() {
	a.mesh.Handle(callMySQL, func(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
		var q mysqlQuestion
		if err := json.Unmarshal(req, &q); err != nil {
			return nil, fmt.Errorf("%s: the question cannot be read: %w", callMySQL, err)
		}
		ans, err := a.mysqlDesk().here(ctx, q)
		if err != nil {
			ans = mysqlAnswer{Code: "failed", Text: err.Error()}
			for code, sentinel := range mysqlCodes {
				if errors.Is(err, sentinel) {
					ans.Code = code
				}
			}
		}
		return json.Marshal(ans)
	})
}

// here answers on the node that watches over the cluster: ErrMySQLAway elsewhere.
func (d *mysqlDesk) here(ctx context.Context, q mysqlQuestion) (a mysqlAnswer, err error) {
	w, err := d.daemon.Watching(q.Tag)
	switch {
	case errors.Is(err, mysqlha.ErrElsewhere):
		return a, fmt.Errorf("%w: %w", api.ErrMySQLAway, err)
	case err != nil:
		return a, fmt.Errorf("%w: %w", api.ErrNotFound, err)
	}
	var done mysqlha.Done
	switch q.What {
	case "cluster", "check", "explain":
		p := w.Picture()
		if p == nil {
			return a, fmt.Errorf("%w: it has just begun to look at the servers of %s", api.ErrMySQLAway, q.Tag)
		}
		switch q.What {
		case "cluster":
			x := d.clusterOf(q.Tag, p)
			a.Cluster = &x
		case "check":
			x := d.checkOf(q.Tag, p)
			host, engines, err := w.Engines(ctx)
			if err != nil {
				x.Notes = append(x.Notes, "which tables are not InnoDB is not known: "+err.Error())
			} else if note := enginesNote(host, engines); note != "" {
				x.Notes = append(x.Notes, note)
			}
			a.Check = &x
		default:
			a.Lines = mysqlha.Explain(p)
		}
		return a, nil
	case "setup":
		done, err = w.Setup(ctx, q.Host, q.Apply, q.By)
	case "switchover":
		done, err = w.Switchover(ctx, q.Host, q.By, q.Log)
	case "failover":
		done, err = w.Failover(ctx, q.Force, q.By, q.Log)
	case "ack":
		done, err = w.Ack(ctx, q.By, q.Log)
	case "pause":
		done, err = w.Pause(ctx, q.By, q.Log)
	case "resume":
		done, err = w.Resume(ctx, q.By, q.Log)
	case "rejoin":
		done, err = w.Rejoin(ctx, q.Host, q.By)
	case "clone":
		done, err = w.Clone(ctx, q.From, q.Host, q.By)
	default:
		return a, fmt.Errorf("%s: %q is not known here: bring all agents to one version", callMySQL, q.What)
	}
	if err != nil {
		return a, ofState(err)
	}
	d.log.Info("a command for a database cluster was carried out", "tag", q.Tag, "command", q.What, "host", q.Host, "force", q.Force, "user", q.By, "reason", q.Log)
	a.Done = &done
	return a, nil
}

// ofState gives an error of a command its kind. The text says it already.
func ofState(err error) error {
	if errors.Is(err, mysqlha.ErrState) || errors.Is(err, mysqlha.ErrNoRecord) {
		return &dutyError{text: err.Error(), err: err, kind: api.ErrMySQLState}
	}
	return err
}

// ask has a question answered by the node that watches over the cluster.
func (d *mysqlDesk) ask(ctx context.Context, q mysqlQuestion) (mysqlAnswer, error) {
	a, err := d.here(ctx, q)
	if !errors.Is(err, api.ErrMySQLAway) {
		return a, err
	}
	holder, err := d.holder(ctx, q.Tag)
	if err != nil {
		return mysqlAnswer{}, err
	}
	return d.askNode(ctx, holder.ID, q)
}

func (d *mysqlDesk) askNode(ctx context.Context, node string, q mysqlQuestion) (a mysqlAnswer, err error) {
	req, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	text, err := d.net.Call(ctx, node, callMySQL, req)
	if err != nil {
		return a, fmt.Errorf("%w: %s: %w", api.ErrMySQLAway, cmp.Or(nodeName(d.net.View(), node), node), err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%w: its answer cannot be read: %w", api.ErrMySQLAway, err)
	}
	if a.Code == "" {
		return a, nil
	}
	kind, known := mysqlCodes[a.Code]
	if !known {
		kind = errMySQLFailed
	}
	return mysqlAnswer{}, &dutyError{text: a.Text, err: kind, kind: kind}
}

// holder is the node that watches over a cluster: ErrMySQLAway says why there is none.
func (d *mysqlDesk) holder(ctx context.Context, tag string) (api.NodeName, error) {
	if d.duties == nil {
		return api.NodeName{}, fmt.Errorf("%w: this node takes no part in duties: ask a node of the cluster's datacenter", api.ErrMySQLAway)
	}
	list, err := d.duties.Duties(ctx)
	if err != nil {
		return api.NodeName{}, fmt.Errorf("%w: who does is not known: %w", api.ErrMySQLAway, err)
	}
	for _, s := range list {
		if s.Duty == mysqlha.DutyOf(tag) && s.Node != "" && s.Node != d.self {
			return api.NodeName{ID: s.Node, Name: nodeName(d.net.View(), s.Node)}, nil
		}
	}
	why := "no node holds the duty " + mysqlha.DutyOf(tag)
	for _, s := range d.daemon.State() {
		if s.Tag == tag && s.Refusal != "" {
			why += "; this one does not because " + s.Refusal
		}
	}
	return api.NodeName{}, fmt.Errorf("%w: %s: hostmesh duties explain %s", api.ErrMySQLAway, why, mysqlha.DutyOf(tag))
}

// need tells whether there is such a cluster.
func (d *mysqlDesk) need(tag string) error {
	v := d.view()
	switch {
	case !v.Exists(hostdb.Tags, tag):
		return fmt.Errorf("tags/%s: %w", tag, hostdb.ErrNotFound)
	case !v.Data(hostdb.Tags, tag).At("MySQL").Exists():
		return fmt.Errorf("tags/%s is no database cluster, for it has no section MySQL: %w", tag, api.ErrNotFound)
	}
	return nil
}

// MySQLClusters implements api.MySQL.
func (d *mysqlDesk) MySQLClusters(ctx context.Context) (api.MySQLList, error) {
	out := api.MySQLList{Version: d.view().Version().String()}
	for _, s := range d.daemon.State() {
		x, err := d.cluster(ctx, s)
		if err != nil {
			return out, err
		}
		out.Clusters = append(out.Clusters, x)
	}
	return out, nil
}

// MySQLCluster implements api.MySQL.
func (d *mysqlDesk) MySQLCluster(ctx context.Context, tag string) (api.MySQLCluster, error) {
	if err := d.need(tag); err != nil {
		return api.MySQLCluster{}, err
	}
	for _, s := range d.daemon.State() {
		if s.Tag == tag {
			return d.cluster(ctx, s)
		}
	}
	return api.MySQLCluster{}, fmt.Errorf("tags/%s: this node has not looked at it yet: %w", tag, api.ErrNotFound)
}

// mysqlPatience is how long is waited for who watches over a cluster, for what can be told without it.
const mysqlPatience = 3 * time.Second

// cluster is one, as who watches over it has it; where nobody can be asked, what HostDB and the record say.
func (d *mysqlDesk) cluster(ctx context.Context, s mysqlha.State) (api.MySQLCluster, error) {
	asked, cancel := context.WithTimeout(ctx, mysqlPatience)
	defer cancel()
	a, err := d.ask(asked, mysqlQuestion{What: "cluster", Tag: s.Tag})
	if err == nil && a.Cluster != nil {
		return *a.Cluster, nil
	}
	x := d.bare(s.Tag)
	x.Problem = s.Problem
	if err != nil {
		x.NotWatched = err.Error()
	}
	mv := d.net.View()
	for _, m := range s.Members {
		x.Servers = append(x.Servers, serverOf(m, mysqlha.Sight{}, mysqlha.Record{}, nil, mv, s.Tag))
	}
	read, cancel2 := context.WithTimeout(ctx, mysqlPatience)
	defer cancel2()
	switch rec, _, err := d.records.Load(read, s.Tag); {
	case err == nil:
		x.Record = recordOf(rec)
		x.Verdict = api.MySQLVerdict{Name: "not watched", Severity: api.SeverityError, Text: "nobody watches over it: there would be no failover", Remedy: "hostmesh duties explain " + mysqlha.DutyOf(s.Tag)}
	case errors.Is(err, mysqlha.ErrNoRecord):
		x.Verdict = api.MySQLVerdict{Name: string(mysqlha.NoRecord), Severity: string(mysqlha.NoRecord.Severity()), Text: "nobody has set it up", Remedy: "hostmesh mysql setup " + s.Tag}
	default:
		x.Verdict = api.MySQLVerdict{Name: string(mysqlha.QuorumLost), Severity: api.SeverityError, Text: err.Error(), Remedy: "hostmesh duties voters names those of whom a majority is needed"}
	}
	return x, nil
}

// bare is what HostDB says of a cluster.
func (d *mysqlDesk) bare(tag string) api.MySQLCluster {
	x := api.MySQLCluster{Tag: tag, Observe: d.observe}
	if my, _ := section.MySQLOf(d.view().Data(hostdb.Tags, tag)); my != nil {
		x.Port, x.Durability, x.Failover, x.MaxLagMS = my.Port, string(my.Durability), string(my.Failover), my.MaxLag.Milliseconds()
		x.VIP, x.ReadVIP = addrText(my.VIP), addrText(my.ReadVIP)
	}
	return x
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

// CheckMySQL implements api.MySQL.
func (d *mysqlDesk) CheckMySQL(ctx context.Context, tag string) (api.MySQLCheck, error) {
	if err := d.need(tag); err != nil {
		return api.MySQLCheck{}, err
	}
	a, err := d.ask(ctx, mysqlQuestion{What: "check", Tag: tag})
	if err != nil || a.Check == nil {
		return api.MySQLCheck{Tag: tag}, err
	}
	return *a.Check, nil
}

// ExplainMySQL implements api.MySQL.
func (d *mysqlDesk) ExplainMySQL(ctx context.Context, tag string) (api.MySQLExplanation, error) {
	if err := d.need(tag); err != nil {
		return api.MySQLExplanation{}, err
	}
	a, err := d.ask(ctx, mysqlQuestion{What: "explain", Tag: tag})
	return api.MySQLExplanation{Tag: tag, Lines: a.Lines}, err
}

// command has one carried out, when who asks may write the section MySQL of the tag.
func (d *mysqlDesk) command(ctx context.Context, who api.Identity, q mysqlQuestion) (api.MySQLDone, error) {
	out := api.MySQLDone{Tag: q.Tag}
	if err := d.need(q.Tag); err != nil {
		return out, err
	}
	v := d.view()
	if err := who.Allow(v, hostdb.Tags, q.Tag, hostdb.Data); err != nil && who.Allow(v, hostdb.Tags, q.Tag, hostdb.Section("MySQL")) != nil {
		return out, err
	}
	q.By = who.User
	a, err := d.ask(ctx, q)
	if err != nil || a.Done == nil {
		return out, err
	}
	out.Epoch, out.Primary, out.TookMS, out.Loss, out.Begun, out.Lines = a.Done.Epoch, a.Done.Primary, a.Done.Took.Milliseconds(), a.Done.Loss, a.Done.Begun, a.Done.Lines
	return out, nil
}

// SetupMySQL implements api.MySQL.
func (d *mysqlDesk) SetupMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLSetup) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "setup", Tag: tag, Host: o.Primary, Apply: o.Apply, Log: o.Log})
}

// SwitchoverMySQL implements api.MySQL.
func (d *mysqlDesk) SwitchoverMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLSwitchover) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "switchover", Tag: tag, Host: o.To, Log: o.Log})
}

// FailoverMySQL implements api.MySQL.
func (d *mysqlDesk) FailoverMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLFailover) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "failover", Tag: tag, Force: o.Force, Log: o.Log})
}

// AckMySQL implements api.MySQL.
func (d *mysqlDesk) AckMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLNote) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "ack", Tag: tag, Log: o.Log})
}

// PauseMySQL implements api.MySQL.
func (d *mysqlDesk) PauseMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLNote) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "pause", Tag: tag, Log: o.Log})
}

// ResumeMySQL implements api.MySQL.
func (d *mysqlDesk) ResumeMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLNote) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "resume", Tag: tag, Log: o.Log})
}

// RejoinMySQL implements api.MySQL.
func (d *mysqlDesk) RejoinMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLRejoin) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "rejoin", Tag: tag, Host: o.Host, Log: o.Log})
}

// CloneMySQL implements api.MySQL.
func (d *mysqlDesk) CloneMySQL(ctx context.Context, who api.Identity, tag string, o api.MySQLClone) (api.MySQLDone, error) {
	return d.command(ctx, who, mysqlQuestion{What: "clone", Tag: tag, From: o.From, Host: o.To, Log: o.Log})
}
