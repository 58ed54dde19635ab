package node

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// clusterOf is a cluster of which this node has a picture.
func (d *mysqlDesk) clusterOf(tag string, p *mysqlha.Picture) api.MySQLCluster {
	x := d.bare(tag)
	mv := d.net.View()
	x.Watcher, x.Fence, x.Observe = &api.NodeName{ID: d.self, Name: nodeName(mv, d.self)}, p.Fence, p.Observe
	head := p.Diagnoses[0]
	x.Verdict = api.MySQLVerdict{Name: string(head.Name), Severity: string(head.Name.Severity()), Text: head.Text, Act: p.Says(), Remedy: head.Remedy, Evidence: head.Evidence}
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
	hosts := d.grantedHosts(c)
	if out.Grants, err = mariadb.Grants(file, hosts); err != nil {
		out.Notes = append(out.Notes, err.Error())
	}
	if dumps := d.dumps(c, tag); len(dumps) > 0 {
		out.Notes = append(out.Notes, "copies from and to "+strings.Join(dumps, ", ")+" are dumps, which take many times longer, and for which the account of copies needs more: install mariadb-backup there")
		more, err := mariadb.DumpGrants(file, hosts)
		if err != nil {
			out.Notes = append(out.Notes, err.Error())
		}
		out.Grants = append(out.Grants, more...)
	}
	return out
}

// dumps are the hosts of a cluster on which mariadb-backup is not installed, by their agents.
func (d *mysqlDesk) dumps(c *mysqlha.Cluster, tag string) (out []string) {
	mv := d.net.View()
	for _, m := range c.Members {
		if node, ok := mv.ByName(m.Host); ok {
			if r, ok := mv.Report(node.ID); ok && r.MySQL[tag].Dumps {
				out = append(out, m.Host)
			}
		}
	}
	return out
}

// enginesNote is what check says of tables that are not InnoDB's; "" = there are none.
func enginesNote(host string, engines map[string]string) string {
	if len(engines) == 0 {
		return ""
	}
	var list []string
	for _, t := range slices.Sorted(maps.Keys(engines)) {
		list = append(list, fmt.Sprintf("%s (%s)", t, engines[t]))
	}
	if n := len(list); n > 10 {
		list = append(list[:10], fmt.Sprintf("and %d more", n-10))
	}
	return fmt.Sprintf("tables of %s that are not InnoDB: %s. What is written there can be half there after a crash, is not dropped with what was never acknowledged, and no copy is compared in it: ALTER TABLE ... ENGINE=InnoDB",
		host, strings.Join(list, ", "))
}

// grantedHosts are from where the accounts come: the network of the VIP, where every node may watch, else the members.
func (d *mysqlDesk) grantedHosts(c *mysqlha.Cluster) (out []string) {
	v := d.view()
	for tag := range v.Keys(hostdb.Tags) {
		s, _ := section.SubnetOf(v.Data(hostdb.Tags, tag))
		if s != nil && s.CIDR.IsValid() && s.CIDR.Addr().Is4() && s.VIPs.IsValid() && s.VIPs.Contains(c.MySQL.VIP.Unmap()) {
			return []string{s.CIDR.Masked().Addr().String() + "/" + net.IP(net.CIDRMask(s.CIDR.Bits(), 32)).String()}
		}
	}
	for _, m := range c.Members {
		if m.Addr.IsValid() {
			out = append(out, m.Addr.String())
		}
	}
	return out
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
