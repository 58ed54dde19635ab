package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
)

// recordLog is a lease log of one record.
type recordLog struct {
	value   []byte
	version uint64
	err     error
}

func (l *recordLog) Get(context.Context, string) (lease.Record, error) {
	if l.version == 0 && l.err == nil {
		return lease.Record{}, lease.ErrNotFound
	}
	return lease.Record{Value: l.value, Version: l.version}, l.err
}

func (l *recordLog) PutHeld(_ context.Context, _ *lease.Grant, _ string, value []byte, version uint64) (uint64, error) {
	if l.err != nil {
		return 0, l.err
	}
	if version != l.version {
		return 0, lease.ErrConflict
	}
	l.value, l.version = value, l.version+1
	return l.version, nil
}

// TestClusterRecords: a record comes back as it was written, errors are those that a runner tells apart, and history never makes it too large.
func TestClusterRecords(t *testing.T) {
	ctx := t.Context()
	log := &recordLog{}
	r := clusterRecords{log: log, grant: &lease.Grant{}}
	if _, _, err := r.Load(ctx, "shop-db"); !errors.Is(err, mysqlha.ErrNoRecord) {
		t.Fatal(err)
	}
	rec := mysqlha.Record{Format: mysqlha.RecordFormat, Epoch: 3, Primary: "db1", Ackers: []string{"db2"}}
	for i := range mysqlha.HistoryLength {
		rec.History = append(rec.History, mysqlha.Event{Epoch: uint64(i), What: strings.Repeat("x", 4<<10)})
	}
	v, err := r.Store(ctx, "shop-db", rec, 0)
	if err != nil || v != 1 || len(log.value) > maxClusterRecord {
		t.Fatalf("%d, %d bytes, %v", v, len(log.value), err)
	}
	back, v, err := r.Load(ctx, "shop-db")
	if err != nil || v != 1 || back.Primary != "db1" || len(back.History) == 0 || back.History[0].Epoch != 0 {
		t.Fatalf("%+v, %d, %v", back, v, err)
	}
	if _, err := r.Store(ctx, "shop-db", rec, 7); !errors.Is(err, mysqlha.ErrChanged) {
		t.Error(err)
	}
	log.err = lease.ErrLost
	if _, err := r.Store(ctx, "shop-db", rec, 1); !errors.Is(err, mysqlha.ErrOvertaken) {
		t.Error(err)
	}
	log.err = lease.ErrUnknown // neither: it may have been written
	if _, err := r.Store(ctx, "shop-db", rec, 1); errors.Is(err, mysqlha.ErrOvertaken) || errors.Is(err, mysqlha.ErrChanged) || !errors.Is(err, lease.ErrUnknown) {
		t.Error(err)
	}
	log.err = nil
	if _, err := (clusterRecords{log: log}).Store(ctx, "shop-db", rec, 1); !errors.Is(err, mysqlha.ErrOvertaken) {
		t.Errorf("without a grant: %v", err)
	}
	for _, bad := range []string{"{", `{"format": 2, "epoch": 9}`, `{"format": 1, "intent": {"kind": "failover", "step": "dance"}}`} {
		log.value = []byte(bad)
		if _, _, err := r.Load(ctx, "shop-db"); err == nil || errors.Is(err, mysqlha.ErrNoRecord) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// writes is documents by id, in one operation.
func (s *vmSite) writes(docs map[string]string) {
	s.t.Helper()
	_, err := s.store.Update(context.Background(), hostdb.Request{User: "alice", Log: "x"}, func(tx *hostdb.Tx) error {
		for id, text := range docs {
			ns, key, _ := strings.Cut(id, "/")
			doc, err := hostdb.ParseDocument([]byte(text))
			if err != nil {
				return err
			}
			if err := tx.Put(ns, key, doc); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatalf("%v", err)
	}
}

// fakePower notes whose power was cut.
type fakePower struct {
	cut []string
	err error
}

func (p *fakePower) Destroy(_ context.Context, uuid string) error {
	p.cut = append(p.cut, uuid)
	return p.err
}

// TestFence: the power of a machine is cut only for who decides about its cluster now, and only of the machine that HostDB gives to the host.
func TestFence(t *testing.T) {
	s := newVMSite(t)
	s.writes(map[string]string{"hosts/db1": "VM: {UUID: u1, Box: box1}", "hosts/db2": "Network: {IP: 10.1.8.2}"})
	good := mysqlha.Record{Format: 1, Epoch: 4, Primary: "db1", Intent: &mysqlha.Intent{Kind: mysqlha.Failover, Step: mysqlha.StepDepose, Old: "db1"}}
	for _, c := range []struct {
		name   string
		edit   func(r *mysqlha.Record, q *fenceRequest)
		refuse string
	}{
		{"it is replaced", func(*mysqlha.Record, *fenceRequest) {}, ""},
		{"it was", func(r *mysqlha.Record, _ *fenceRequest) { r.Intent, r.Fenced = nil, map[string]string{"db1": "silent"} }, ""},
		{"an older epoch", func(_ *mysqlha.Record, q *fenceRequest) { q.Order.Epoch = 3 }, "another agent decides"},
		{"a later one", func(_ *mysqlha.Record, q *fenceRequest) { q.Order.Epoch = 5 }, "another agent decides"},
		{"it is not replaced", func(r *mysqlha.Record, _ *fenceRequest) { r.Intent = nil }, "does not replace hosts/db1"},
		{"it hands over", func(r *mysqlha.Record, _ *fenceRequest) {
			r.Intent.Kind, r.Intent.Step = mysqlha.Switchover, mysqlha.Steps(mysqlha.Switchover)[0]
		}, "does not replace hosts/db1"},
		{"another is", func(r *mysqlha.Record, _ *fenceRequest) { r.Intent.Old = "db3" }, "does not replace hosts/db1"},
		{"another machine", func(_ *mysqlha.Record, q *fenceRequest) { q.UUID = "u2" }, `is the machine "u1" here, and not "u2"`},
		{"no machine", func(_ *mysqlha.Record, q *fenceRequest) { q.Host, q.UUID = "db2", "" }, "is the machine"},
	} {
		rec, q := good.Clone(), fenceRequest{UUID: "u1", Host: "db1", Order: mysqlha.Order{Tag: "shop-db", Epoch: 4, Fence: 9}}
		c.edit(&rec, &q)
		value, _ := json.Marshal(rec)
		text, _ := json.Marshal(q)
		p := &fakePower{}
		err := fence(t.Context(), s.store.View(), clusterRecords{log: &recordLog{value: value, version: 1}}, p, text)
		switch {
		case c.refuse == "" && (err != nil || len(p.cut) != 1 || p.cut[0] != "u1"):
			t.Errorf("%s: %v, cut %v", c.name, err, p.cut)
		case c.refuse != "" && (err == nil || !strings.Contains(err.Error(), c.refuse) || len(p.cut) > 0):
			t.Errorf("%s: %v, cut %v", c.name, err, p.cut)
		}
	}
	value, _ := json.Marshal(good)
	text, _ := json.Marshal(fenceRequest{UUID: "u1", Host: "db1", Order: mysqlha.Order{Tag: "shop-db", Epoch: 4}})
	records := clusterRecords{log: &recordLog{value: value, version: 1}}
	if err := fence(t.Context(), s.store.View(), records, &fakePower{err: vmd.ErrNoDomain}, text); err != nil {
		t.Errorf("a machine that is not there has no power: %v", err)
	}
	if err := fence(t.Context(), s.store.View(), records, &fakePower{err: vmd.ErrAway}, text); !errors.Is(err, vmd.ErrAway) {
		t.Error(err)
	}
	if err := fence(t.Context(), s.store.View(), clusterRecords{log: &recordLog{err: lease.ErrNoLeader}}, &fakePower{}, text); !errors.Is(err, lease.ErrNoLeader) {
		t.Error(err)
	}
	if err := fence(t.Context(), s.store.View(), records, nil, text); err == nil {
		t.Error("there is no hypervisor")
	}
}

// mysqlSite is a replica, and two nodes, of which box2 watches over shop-db; the desk is that of box1.
type mysqlSite struct {
	*vmSite
	asked  []string
	answer mysqlAnswer
	err    error
	duties []lease.Status
	log    recordLog
}

func (s *mysqlSite) Call(_ context.Context, node, name string, req []byte) ([]byte, error) {
	s.asked = append(s.asked, name+" "+node+" "+string(req))
	if s.err != nil {
		return nil, s.err
	}
	return json.Marshal(s.answer)
}

func (s *mysqlSite) Duties(context.Context) ([]lease.Status, error) { return s.duties, nil }

// WatchMembers implements mysqlha.Mesh.
func (s *mysqlSite) WatchMembers() (<-chan struct{}, func()) { return nil, func() {} }

func newMySQLSite(t *testing.T) (*mysqlSite, *mysqlDesk) {
	s := &mysqlSite{vmSite: newVMSite(t), duties: []lease.Status{{Duty: "mysql/shop-db", Node: box("box2"), Fence: 9}}}
	s.writes(map[string]string{
		"tags/prod": "Subnet: {CIDR: 10.1.0.0/16, VIPs: 10.1.0.48/28, Datacenter: dc1}", "tags/plain": "{}",
		"tags/shop-db": "MySQL: {VIP: 10.1.0.60, ReadVIP: 10.1.0.61, Credentials: shop, MaxLag: 7s}", "hosts/db1": "Network: {IP: 10.1.8.1}",
	})
	d, err := mysqlha.Open(mysqlha.Config{
		Node: box("box1"), Name: "box1", Datacenter: "dc1", Mesh: s, Unfit: "it must not", Logger: slog.New(slog.DiscardHandler),
		Open:    func(string, string) (mysqlha.Effects, error) { return nil, errors.New("nothing is opened here") },
		Usable:  func(string) string { return "" },
		Records: func(mysqlha.Grant) mysqlha.Records { return clusterRecords{log: &s.log} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reconcile(t.Context(), s.store.View(), s.mv); err != nil {
		t.Fatal(err)
	}
	return s, &mysqlDesk{
		view: s.store.View, daemon: d, net: s, self: box("box1"), log: slog.New(slog.DiscardHandler), duties: s, records: clusterRecords{log: &s.log},
		file: func(string) (credentials.File, error) { return credentials.File{}, credentials.ErrNone },
	}
}

// TestMySQLDeskAsksTheWatcher: what is told and done is the watcher's, and where it is not there, why.
func TestMySQLDeskAsksTheWatcher(t *testing.T) {
	s, d := newMySQLSite(t)
	ctx := t.Context()
	s.answer = mysqlAnswer{Cluster: &api.MySQLCluster{Tag: "shop-db", Verdict: api.MySQLVerdict{Name: "well"}}}
	list, err := d.MySQLClusters(ctx)
	if err != nil || len(list.Clusters) != 1 || list.Clusters[0].Verdict.Name != "well" || len(s.asked) != 1 || !strings.HasPrefix(s.asked[0], callMySQL+" "+box("box2")) {
		t.Fatalf("%+v, %v, asked %q", list, err, s.asked)
	}
	for _, tag := range []string{"none", "plain"} {
		if _, err := d.MySQLCluster(ctx, tag); !errors.Is(err, api.ErrNotFound) && !errors.Is(err, hostdb.ErrNotFound) {
			t.Errorf("%s: %v", tag, err)
		}
	}
	root := api.Identity{User: "root", Admin: true}
	s.answer = mysqlAnswer{Done: &mysqlha.Done{Epoch: 5, Primary: "db2", Took: 84 * time.Millisecond, Lines: []string{"switchover from db1 to db2"}}}
	done, err := d.SwitchoverMySQL(ctx, root, "shop-db", api.MySQLSwitchover{To: "db2", Log: "disks"})
	if err != nil || done.Epoch != 5 || done.Primary != "db2" || done.TookMS != 84 || len(done.Lines) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	var q mysqlQuestion
	_, text, _ := strings.Cut(s.asked[len(s.asked)-1], "{")
	if err := json.Unmarshal([]byte("{"+text), &q); err != nil || q != (mysqlQuestion{What: "switchover", Tag: "shop-db", By: "root", Log: "disks", Host: "db2"}) {
		t.Errorf("%+v, %v", q, err)
	}
	// Errors keep their kind and their text across.
	for code, want := range map[string]error{"state": api.ErrMySQLState, "away": api.ErrMySQLAway, "failed": errMySQLFailed, "later": errMySQLFailed} {
		s.answer = mysqlAnswer{Code: code, Text: "db4 is not cut"}
		if _, err := d.FailoverMySQL(ctx, root, "shop-db", api.MySQLFailover{Log: "x"}); !errors.Is(err, want) || !strings.Contains(err.Error(), "db4 is not cut") {
			t.Errorf("%s: %v", code, err)
		}
	}
	// Nobody may who may not write the section.
	asked := len(s.asked)
	if _, err := d.PauseMySQL(ctx, api.Identity{User: "eve"}, "shop-db", api.MySQLNote{Log: "x"}); !errors.Is(err, hostdb.ErrDenied) || len(s.asked) != asked {
		t.Errorf("eve: %v", err)
	}
	// Nobody watches: the record is what there is.
	s.duties, s.asked = nil, nil
	if _, err := d.CloneMySQL(ctx, root, "shop-db", api.MySQLClone{To: "db1", Log: "x"}); !errors.Is(err, api.ErrMySQLAway) || !strings.Contains(err.Error(), "it must not") {
		t.Error(err)
	}
	x, err := d.MySQLCluster(ctx, "shop-db")
	if err != nil || x.Verdict.Name != string(mysqlha.NoRecord) || x.VIP != "10.1.0.60" || x.MaxLagMS != 7000 || !strings.Contains(x.NotWatched, "mysql/shop-db") {
		t.Errorf("%+v, %v", x, err)
	}
	s.log.value, _ = json.Marshal(mysqlha.Record{Format: 1, Epoch: 2, Primary: "db1"})
	s.log.version = 1
	if x, err := d.MySQLCluster(ctx, "shop-db"); err != nil || x.Record == nil || x.Record.Primary != "db1" || x.Verdict.Severity != api.SeverityError {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestDrainedPrimaryHandsOver: the primary of a cluster goes from a node that is drained, and from machines on its box, where that happens by itself; else it is told what to do.
func TestDrainedPrimaryHandsOver(t *testing.T) {
	s, d := newMySQLSite(t)
	drain := func(node string) string { return strings.Join(d.leave(t.Context(), "root", node, "new disks"), "\n") }
	if text := drain("db1"); text != "" {
		t.Errorf("a cluster that nobody has set up: %s", text)
	}
	s.log.value, _ = json.Marshal(mysqlha.Record{Format: 1, Epoch: 2, Primary: "db1"})
	s.log.version = 1
	s.answer = mysqlAnswer{Done: &mysqlha.Done{Epoch: 5, Primary: "db2", Took: 84 * time.Millisecond}}
	if text := drain("db2"); text != "" || len(s.asked) > 0 {
		t.Errorf("a node that leads nothing: %s, %q", text, s.asked)
	}
	if text := drain("db1"); !strings.Contains(text, "hostmesh mysql switchover shop-db") || len(s.asked) > 0 {
		t.Errorf("with Failover manual: %s, %q", text, s.asked)
	}
	s.writes(map[string]string{
		"tags/shop-db": "MySQL: {VIP: 10.1.0.60, ReadVIP: 10.1.0.61, Credentials: shop, Failover: auto}", "hosts/db1": "{Network: {IP: 10.1.8.1}, VM: {Box: box7, UUID: 4bd1a36e-5f6e-4b5b-8c0e-000000000001}}",
	})
	for _, node := range []string{"db1", "box7"} {
		s.asked = nil
		if text := drain(node); !strings.Contains(text, "db1 has handed over to db2, in 84 ms") || len(s.asked) != 1 || !strings.Contains(s.asked[0], `"switchover"`) || !strings.Contains(s.asked[0], "new disks") {
			t.Errorf("%s: %s, %q", node, text, s.asked)
		}
	}
	s.answer = mysqlAnswer{Code: "state", Text: "no replica has all"}
	if text := drain("db1"); !strings.Contains(text, "no replica has all: hostmesh mysql switchover shop-db") {
		t.Errorf("one that cannot: %s", text)
	}
	s.log.err = lease.ErrNoLeader
	if text := drain("db1"); text != "" {
		t.Errorf("a host that is no member: %s", text)
	}
}

// TestMySQLRefusalIsSaidOnce: what cannot be done is said once, and keeps its kinds.
func TestMySQLRefusalIsSaidOnce(t *testing.T) {
	err := ofState(fmt.Errorf("%w: db4 is not cut", mysqlha.ErrState))
	if strings.Count(err.Error(), "as it stands") != 1 || !errors.Is(err, api.ErrMySQLState) || !errors.Is(err, mysqlha.ErrState) {
		t.Errorf("it is said: %v", err)
	}
	if err := ofState(fmt.Errorf("shop-db: %w", mysqlha.ErrNoRecord)); !errors.Is(err, api.ErrMySQLState) || err.Error() != "shop-db: "+mysqlha.ErrNoRecord.Error() {
		t.Errorf("it is said: %v", err)
	}
	other := errors.New("another")
	if err := ofState(other); err != other {
		t.Errorf("it is said: %v", err)
	}
}

// TestMySQLPicture turns what the watcher has seen into what people are shown.
func TestMySQLPicture(t *testing.T) {
	s, d := newMySQLSite(t)
	now := time.Now()
	lag := 9 * time.Second
	p := &mysqlha.Picture{
		Fence: 9, Action: mysqlha.Action{Act: mysqlha.ActPage, Host: "db1", For: mysqlha.PrimaryDead, Why: "db3 does not answer"},
		Cluster: mysqlha.Cluster{
			Tag: "shop-db", MySQL: section.MySQL{VIP: netip.MustParseAddr("10.1.0.60"), Credentials: "shop"}, HasRecord: true,
			Record: mysqlha.Record{Epoch: 4, Primary: "db1", Ackers: []string{"db2"}, Fenced: map[string]string{"db4": "silent"}, LastFailover: now,
				Intent: &mysqlha.Intent{Kind: mysqlha.Failover, Step: mysqlha.StepDepose, Old: "db1", Why: "dead"}, Paused: &mysqlha.Paused{By: "alice"},
				History: []mysqlha.Event{{Epoch: 4, What: "failover", Loss: "a row", Took: time.Second}}},
			Members: []mysqlha.Member{{Host: "db1", Addr: netip.MustParseAddr("10.1.8.1"), Port: 3306}, {Host: "db2", Addr: netip.MustParseAddr("10.1.8.2"), Port: 3306}, {Host: "db3", Unfit: "it has no Network/IP"}},
			Others:  []mysqlha.Member{{Host: "db4", Addr: netip.MustParseAddr("10.1.8.4"), Port: 3306}},
		},
		Observations: mysqlha.Observations{Now: now, Servers: map[string]mysqlha.Sight{
			"db1": {Known: true, Answered: now.Add(-time.Second), Facts: mysqlha.Facts{Version: "10.11.19-MariaDB", Flavour: mysqlha.MariaDB, Current: "0-1-9"}},
			"db2": {Known: true, Answered: now, Facts: mysqlha.Facts{Flavour: mysqlha.MariaDB, Version: "10.11.19-MariaDB", ReadOnly: true, Current: "0-1-8", Received: "0-1-9",
				Settings: map[string]string{"log_bin": "OFF"}, Replica: &mysqlha.Replication{SourceHost: "10.1.8.1", SourcePort: 3306, IO: "Yes", SQL: true, Lag: &lag, UsesGTID: true, HeartbeatPeriod: 250 * time.Millisecond}}},
			"db4": {Cause: mysqlha.CauseUnreachable, Error: "connection refused"},
		}},
		Diagnoses: []mysqlha.Diagnosis{{Name: mysqlha.PrimaryDead, Host: "db1", Text: "its process died", Evidence: []string{"its agent says so"}}, {Name: mysqlha.ReplicaLagging, Host: "db2", Text: "9 s"}},
		Tasks:     []mysqlha.Task{{What: "clone", Host: "db3", Progress: mysqlha.CloneProgress{Step: "backup", Bytes: 7}, Began: now}},
	}
	s.mv = s.mv.WithReport(report.Report{Node: box("box2"), Boot: 1, N: 1})
	x := d.clusterOf("shop-db", p)
	if x.Watcher.ID != box("box1") || x.Fence != 9 || x.Verdict.Severity != api.SeverityError || len(x.Verdict.Evidence) != 2 || x.Verdict.Act != "a person has to decide, because db3 does not answer" || x.Record.Intent.Step != string(mysqlha.StepDepose) ||
		x.Record.Paused.By != "alice" || x.Record.LastFailover == nil || !strings.Contains(x.Record.History[0].What, "possibly lost: a row") || x.Tasks[0].Bytes != 7 || len(x.Servers) != 4 {
		t.Errorf("%+v", x)
	}
	one, two, three, four := x.Servers[0], x.Servers[1], x.Servers[2], x.Servers[3]
	if one.Role != "primary" || one.Acker || one.AgeMS != 1000 || !strings.Contains(one.Note, "its process died") {
		t.Errorf("%+v", one)
	}
	if two.Role != "replica" || two.Source != "db1" || !two.Acker || *two.LagMS != 9000 || two.SQL != "Yes" || two.Received != "0-1-9" || !two.ReadOnly {
		t.Errorf("%+v", two)
	}
	if three.Note != "it has no Network/IP" || four.Marked != "silent" || four.Note != "connection refused" || four.Agent != "none" {
		t.Errorf("%+v %+v", three, four)
	}
	check := d.checkOf("shop-db", p)
	text := fmt.Sprintf("%+v", check)
	if check.Good || len(check.Servers) != 3 || !strings.Contains(text, "log_bin") || !strings.Contains(text, "it has no Network/IP") || len(check.Grants) > 0 {
		t.Errorf("%s", text)
	}
	d.file = func(string) (credentials.File, error) {
		a := credentials.Account{User: "hostmesh", Password: credentials.NewSecret("geheim")}
		return credentials.File{Admin: a, Replication: credentials.Account{User: "repl", Password: a.Password}, Backup: a}, nil
	}
	check = d.checkOf("shop-db", p)
	if text := strings.Join(check.Grants, "\n"); !strings.Contains(text, "'hostmesh'@'10.1.0.0/255.255.0.0'") || strings.Contains(text, "geheim") {
		t.Errorf("%s", text)
	}
}

// TestMySQLCheckTellsOfDumps: where mariadb-backup is not installed on a member's host the grants have what dumps need, and nowhere else.
func TestMySQLCheckTellsOfDumps(t *testing.T) {
	s, d := newMySQLSite(t)
	d.file = func(string) (credentials.File, error) {
		a := credentials.Account{User: "hostmesh", Password: credentials.NewSecret("geheim")}
		return credentials.File{Admin: a, Replication: credentials.Account{User: "repl", Password: a.Password}, Backup: credentials.Account{User: "copies", Password: a.Password}}, nil
	}
	p := &mysqlha.Picture{Cluster: mysqlha.Cluster{Tag: "shop-db", MySQL: section.MySQL{VIP: netip.MustParseAddr("10.1.0.60")}, Members: []mysqlha.Member{{Host: "box2"}}}, Diagnoses: []mysqlha.Diagnosis{{Name: mysqlha.Well}}}
	for _, dumps := range []bool{false, true} {
		s.mv = s.mv.WithReport(report.Report{Node: box("box2"), Boot: 1, N: 1, MySQL: map[string]report.MySQL{"shop-db": {Process: "running", Dumps: dumps}}})
		check := d.checkOf("shop-db", p)
		text, notes := strings.Join(check.Grants, "\n"), strings.Join(check.Notes, "\n")
		if strings.Contains(text, "GRANT SHOW VIEW, TRIGGER, EVENT ON *.* TO 'copies'@'10.1.0.0/255.255.0.0'") != dumps || strings.Contains(text, "EVENT ON *.* TO 'hostmesh'") ||
			strings.Contains(notes, "copies from and to box2 are dumps") != dumps {
			t.Errorf("dumps %t: %s\n%s", dumps, text, notes)
		}
	}
}

// TestEnginesNote: tables that are not InnoDB are named, not too many of them, with why.
func TestEnginesNote(t *testing.T) {
	t.Parallel()
	if note := enginesNote("db1", nil); note != "" {
		t.Error(note)
	}
	engines := map[string]string{}
	for i := range 30 {
		engines[fmt.Sprintf("shop.t%02d", i)] = "Aria"
	}
	note := enginesNote("db1", engines)
	if !strings.Contains(note, "tables of db1 that are not InnoDB: shop.t00 (Aria), ") || strings.Contains(note, "shop.t10") || !strings.Contains(note, "and 20 more") || !strings.Contains(note, "half there after a crash") {
		t.Error(note)
	}
}

var _ mysqlha.Mesh = (*mysqlSite)(nil)
