package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadb"
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
		if errors.Is(err, mysqlha.ErrState) || errors.Is(err, mysqlha.ErrNoRecord) {
			err = fmt.Errorf("%w: %w", api.ErrMySQLState, err)
		}
		return a, err
	}
	d.log.Info("a command for a database cluster was carried out", "tag", q.Tag, "command", q.What, "host", q.Host, "force", q.Force, "user", q.By, "reason", q.Log)
	a.Done = &done
	return a, nil
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
		x.Verdict = api.MySQLVerdict{Name: "not watched", Severity: api.SeverityError, Text: "nobody watches over it: there would be no failover"}
	case errors.Is(err, mysqlha.ErrNoRecord):
		x.Verdict = api.MySQLVerdict{Name: string(mysqlha.NoRecord), Severity: string(mysqlha.NoRecord.Severity()), Text: "nobody has set it up", Remedy: "hostmesh mysql setup " + s.Tag}
	default:
		x.Verdict = api.MySQLVerdict{Name: string(mysqlha.QuorumLost), Severity: api.SeverityError, Text: err.Error()}
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

// clusterOf is a cluster of which this node has a picture.
func (d *mysqlDesk) clusterOf(tag string, p *mysqlha.Picture) api.MySQLCluster {
	x := d.bare(tag)
	mv := d.net.View()
	x.Watcher, x.Fence, x.Observe = &api.NodeName{ID: d.self, Name: nodeName(mv, d.self)}, p.Fence, p.Observe
	head := p.Diagnoses[0]
	x.Verdict = api.MySQLVerdict{Name: string(head.Name), Severity: string(head.Name.Severity()), Text: head.Text, Remedy: head.Remedy, Evidence: head.Evidence}
	for _, more := range p.Diagnoses[1:] {
		x.Verdict.Evidence = append(slices.Clip(x.Verdict.Evidence), "also "+string(more.Name)+": "+more.Text)
	}
	rec := mysqlha.Record{}
	if p.Cluster.HasRecord {
		rec = p.Cluster.Record
		x.Record = recordOf(rec)
	}
	for _, m := range slices.Concat(p.Cluster.Members, p.Cluster.Others) {
		x.Servers = append(x.Servers, serverOf(m, p.Observations.Servers[m.Host], rec, p, mv, tag))
	}
	for _, t := range p.Tasks {
		x.Tasks = append(x.Tasks, api.MySQLTask{
			What: t.What, Host: t.Host, Step: t.Progress.Step, Bytes: t.Progress.Bytes, Total: t.Progress.Total, Began: t.Began, Done: t.Done, Error: t.Error, TookMS: t.Took.Milliseconds(),
		})
	}
	return x
}

func recordOf(r mysqlha.Record) *api.MySQLRecord {
	out := &api.MySQLRecord{Epoch: r.Epoch, Primary: r.Primary, Ackers: r.Ackers, Durability: r.Durability, AckedBy: r.AckedBy, Fenced: r.Fenced}
	if !r.LastFailover.IsZero() {
		out.LastFailover = &r.LastFailover
	}
	if p := r.Paused; p != nil {
		out.Paused = &api.MySQLPaused{By: p.By, Since: p.Since, Why: p.Why}
	}
	if i := r.Intent; i != nil {
		out.Intent = &api.MySQLIntent{Kind: string(i.Kind), Step: string(i.Step), Old: i.Old, To: i.To, Began: i.Began, By: i.By, Why: i.Why, Stopped: i.Stopped, Loss: i.Loss}
	}
	for _, e := range r.History {
		what := e.What
		if e.Loss != "" {
			what += "; possibly lost: " + e.Loss
		}
		out.History = append(out.History, api.MySQLEvent{At: e.At, Epoch: e.Epoch, What: what, TookMS: e.Took.Milliseconds(), By: e.By})
	}
	return out
}

// serverOf is a server as it was seen. p is nil where it was not.
func serverOf(m mysqlha.Member, s mysqlha.Sight, rec mysqlha.Record, p *mysqlha.Picture, mv mesh.View, tag string) api.MySQLServer {
	x := api.MySQLServer{Host: m.Host, Addr: addrText(m.Addr), Port: uint16(m.Port), Note: m.Unfit, Acker: slices.Contains(rec.Ackers, m.Host), Marked: rec.Fenced[m.Host], Agent: "none"}
	if node, ok := mv.ByName(m.Host); ok {
		x.Agent = node.State.String()
		if r, ok := mv.Report(node.ID); ok {
			own := r.MySQL[tag]
			x.Process, x.Reads, x.HasVIP, x.Role = own.Process, own.Reads, own.VIP == "held", own.Role
			x.Note = cmp.Or(x.Note, own.Reason)
		}
	}
	if p == nil {
		return x
	}
	for _, d := range p.Diagnoses {
		if d.Host == m.Host && d.Name.Severity() != mysqlha.Fine {
			x.Note = string(d.Name) + ": " + d.Text
			break
		}
	}
	if s.Cause != "" {
		x.Note = cmp.Or(x.Note, s.Error)
	}
	if !s.Known {
		return x
	}
	f := s.Facts
	x.Version, x.ReadOnly, x.Position, x.Received = f.Version, f.ReadOnly, f.Current, f.Received
	x.AgeMS = max(p.Observations.Now.Sub(s.Answered).Milliseconds(), 0)
	if m.Host == rec.Primary {
		x.Role = "primary"
	}
	if r := f.Replica; r != nil {
		x.Role, x.IO, x.SQL = cmp.Or(x.Role, "replica"), r.IO, "No"
		if r.SQL {
			x.SQL = "Yes"
		}
		if r.Lag != nil {
			ms := r.Lag.Milliseconds()
			x.LagMS = &ms
		}
		x.Source = r.SourceHost
		for _, other := range slices.Concat(p.Cluster.Members, p.Cluster.Others) {
			if other.Addr.IsValid() && other.Addr.String() == r.SourceHost && other.Port == r.SourcePort {
				x.Source = other.Host
			}
		}
	}
	return x
}

// checkOf compares the servers with what the cluster needs.
func (d *mysqlDesk) checkOf(tag string, p *mysqlha.Picture) api.MySQLCheck {
	out := api.MySQLCheck{Tag: tag, Good: true}
	c := &p.Cluster
	for _, m := range c.Members {
		s := p.Observations.Servers[m.Host]
		x := api.MySQLServerCheck{Host: m.Host}
		switch {
		case m.Unfit != "":
			x.Error = m.Unfit
		case !s.Known || s.Cause != "":
			x.Error = cmp.Or(s.Error, "it was not asked yet")
		default:
			x.Error = mysqlha.Supported(s.Facts)
			role := mysqlha.OnReplica
			if c.HasRecord && c.Record.Primary == m.Host || !c.HasRecord && s.Facts.Replica == nil && !s.Facts.ReadOnly {
				role = mysqlha.OnPrimary
			}
			for _, w := range mysqlha.Check(s.Facts, role, c.Strict()) {
				x.Settings = append(x.Settings, api.MySQLSetting{Name: w.Name, Have: w.Have, Want: w.Want, Why: w.Why, Severity: w.Severity, Restart: w.Restart})
				out.Good = out.Good && w.Severity != mysqlha.SettingError
			}
		}
		out.Good = out.Good && x.Error == ""
		out.Servers = append(out.Servers, x)
	}
	for _, g := range p.Diagnoses {
		if g.Name != mysqlha.Well {
			out.Notes = append(out.Notes, string(g.Name)+": "+g.Text)
		}
	}
	file, err := d.file(c.MySQL.Credentials)
	if err != nil {
		out.Notes = append(out.Notes, err.Error())
		return out
	}
	if file.TLS == nil {
		out.Notes = append(out.Notes, "the agents' connections to the servers are not encrypted: credentials.d/"+c.MySQL.Credentials+".yaml has no tls")
	}
	if out.Grants, err = mariadb.Grants(file, d.grantedHosts(c)); err != nil {
		out.Notes = append(out.Notes, err.Error())
	}
	return out
}

// grantedHosts are from where the accounts come: the network of the VIP, where every node may watch, else the members.
func (d *mysqlDesk) grantedHosts(c *mysqlha.Cluster) (out []string) {
	v := d.view()
	for tag := range v.Keys(hostdb.Tags) {
		s, _ := section.SubnetOf(v.Data(hostdb.Tags, tag))
		if s != nil && s.CIDR.IsValid() && s.CIDR.Addr().Is4() && s.VIPs.IsValid() && s.VIPs.Contains(c.MySQL.VIP.Unmap()) {
			mask := netip.AddrFrom4([4]byte(netMask(s.CIDR.Bits())))
			return []string{s.CIDR.Masked().Addr().String() + "/" + mask.String()}
		}
	}
	for _, m := range c.Members {
		if m.Addr.IsValid() {
			out = append(out, m.Addr.String())
		}
	}
	return out
}

func netMask(bits int) []byte {
	n := ^uint32(0) << (32 - bits)
	if bits == 0 {
		n = 0
	}
	return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
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

// mysqlProblems are what is wrong with the clusters that this node watches over, and with the servers of this box.
func (a *Agent) mysqlProblems() (list []api.Problem) {
	if a.mysql.daemon == nil {
		return nil
	}
	for _, s := range a.mysql.daemon.State() {
		if s.Problem != "" {
			list = append(list, api.Problem{Severity: api.SeverityError, Subject: "mysql", Text: s.Problem, Remedy: "see hostmesh schema MySQL"})
		}
		if s.Picture == nil {
			continue
		}
		for _, g := range s.Picture.Diagnoses {
			if severity := g.Name.Severity(); severity == mysqlha.Grave || severity == mysqlha.Warning {
				p := api.Problem{Severity: api.SeverityNotice, Subject: "mysql", Text: fmt.Sprintf("%s: %s: %s", s.Tag, g.Name, g.Text), Remedy: cmp.Or(g.Remedy, "hostmesh mysql explain "+s.Tag)}
				if severity == mysqlha.Grave {
					p.Severity = api.SeverityError
				}
				list = append(list, p)
			}
		}
	}
	if b := a.mysql.beside; b != nil {
		wrong := b.problems()
		for _, tag := range slices.Sorted(maps.Keys(wrong)) {
			list = append(list, api.Problem{Severity: api.SeverityError, Subject: "mysql", Text: "the database server of this box is not led: " + wrong[tag], Remedy: "put the cluster's file into credentials.d of this box, or take the host out of tags/" + tag})
		}
	}
	return list
}
