package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// sampleMySQL is a cluster with everything that can be said of one.
func sampleMySQL() api.MySQLCluster {
	lag, none := int64(12_000), int64(0)
	failover := lbNoon.Add(-20 * time.Minute)
	return api.MySQLCluster{
		Tag: "shop-db", VIP: "10.1.0.60", ReadVIP: "10.1.0.61", Port: 3306, Durability: "strict", Failover: "auto", MaxLagMS: 5000,
		Record: &api.MySQLRecord{Epoch: 7, Primary: "db2", Ackers: []string{"db3", "db4"}, Durability: "strict", LastFailover: &failover,
			Fenced:  map[string]string{"db1": "it was silent"},
			Paused:  &api.MySQLPaused{By: "alice", Since: lbNoon.Add(-time.Hour), Why: "new disks"},
			Intent:  &api.MySQLIntent{Kind: "failover", Step: "gate", Old: "db2", Began: lbNoon.Add(-3 * time.Second), Why: "primary-silent", Stopped: "db4 is not cut", Loss: "what db4 acknowledged"},
			History: []api.MySQLEvent{{At: failover, Epoch: 7, What: "failover from db1 to db2", TookMS: 184}}},
		Watcher: &api.NodeName{ID: "n1", Name: "box1"}, Fence: 912,
		Verdict: api.MySQLVerdict{Name: "replica-lags", Severity: "warning", Text: "db4 is 12 s behind", Remedy: "look at its disk", Act: "a person has to decide, because db4 is not cut",
			Evidence: []string{"db4: 12 s", "also paused: by alice"}},
		Servers: []api.MySQLServer{
			{Host: "db1", Process: "stopped", Marked: "it was silent", Note: "it is fenced"},
			{Host: "db2", Role: "primary", HasVIP: true, Process: "running", Version: "10.11.19-MariaDB", Position: "0-2-812"},
			{Host: "db3", Role: "replica", Source: "db2", ReadOnly: true, Acker: true, Reads: true, Process: "running", Position: "0-2-812", Received: "0-2-812", LagMS: &none},
			{Host: "db5", Role: "replica", Source: "db3", ReadOnly: true, Process: "running", Position: "0-2-812"},
			{Host: "db4", Role: "replica", Source: "db2", ReadOnly: true, Acker: true, Process: "running", Position: "0-2-700", Received: "0-2-812", LagMS: &lag, Note: "it lags \x1b[2J"},
			{Host: "db7", Role: "replica", Source: "db8"}, {Host: "db8", Role: "replica", Source: "db7"},
		},
		Tasks: []api.MySQLTask{
			{What: "clone", Host: "db6", Step: "backup", Bytes: 100 << 20, Total: 450 << 20, Began: lbNoon.Add(-2 * time.Second)},
			{What: "rejoin", Host: "db1", Step: "prepare", Error: "disk is full", Began: lbNoon},
			{What: "switchover", Done: true, TookMS: 84, Began: lbNoon},
		},
	}
}

func TestMySQLTexts(t *testing.T) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	mysqlTexts(w, []api.MySQLCluster{sampleMySQL(), {Tag: "new-db", VIP: "10.1.0.62", Port: 3306, Durability: "strict", Failover: "manual",
		NotWatched: "no node has credentials.d/new.yaml", Verdict: api.MySQLVerdict{Name: "no-record", Text: "nobody has set it up", Remedy: "hostmesh mysql setup new-db"}},
		{Tag: "bad-db", Problem: "tags/bad-db: MySQL/VIP: is missing"}}, lbNoon)
	mysqlTexts(w, nil, lbNoon)
	mysqlCheckText(w, api.MySQLCheck{Tag: "shop-db", Notes: []string{"the connections are not encrypted"}, Servers: []api.MySQLServerCheck{
		{Host: "db1", Error: "server refuses the account"},
		{Host: "db2", Settings: []api.MySQLSetting{{Name: "log_bin", Want: "ON", Have: "OFF", Why: "nobody can replicate from it", Severity: "error", Restart: true}}}}})
	mysqlCheckText(w, api.MySQLCheck{Servers: make([]api.MySQLServerCheck, 3)})
	w.Flush()
	golden(t, "mysql.txt", []byte(b.String()))
}

// fakeMySQL has one cluster, and notes what it is told. A task is done at the third look.
type fakeMySQL struct {
	did   []string
	looks int
	fails string // a task ends with this
	loss  string
}

func (f *fakeMySQL) MySQLClusters(context.Context) (api.MySQLList, error) {
	return api.MySQLList{Clusters: []api.MySQLCluster{sampleMySQL()}}, nil
}

func (f *fakeMySQL) MySQLCluster(_ context.Context, tag string) (api.MySQLCluster, error) {
	if tag != "shop-db" {
		return api.MySQLCluster{}, fmt.Errorf("tags/%s: %w", tag, api.ErrNotFound)
	}
	f.looks++
	x := sampleMySQL()
	x.Tasks = nil
	for _, what := range []string{"clone", "rejoin"} {
		task := api.MySQLTask{What: what, Host: "db4", Began: time.Now(), Step: "backup", Done: f.looks > 2, TookMS: 3500}
		if task.Done {
			task.Error = f.fails
		}
		x.Tasks = append(x.Tasks, task)
	}
	return x, nil
}

func (f *fakeMySQL) CheckMySQL(context.Context, string) (api.MySQLCheck, error) {
	return api.MySQLCheck{Tag: "shop-db", Grants: []string{"GRANT RELOAD ON *.* TO 'hostmesh'@'10.1.%'"}, Servers: []api.MySQLServerCheck{{Host: "db1", Error: "server does not answer"}}}, nil
}

func (f *fakeMySQL) ExplainMySQL(context.Context, string) (api.MySQLExplanation, error) {
	return api.MySQLExplanation{Tag: "shop-db", Lines: []string{"db1 was asked 3 times"}}, nil
}

func (f *fakeMySQL) note(who api.Identity, format string, args ...any) (api.MySQLDone, error) {
	f.did = append(f.did, fmt.Sprintf(format, args...))
	if who.User == "" {
		return api.MySQLDone{}, hostdb.ErrDenied
	}
	return api.MySQLDone{Tag: "shop-db", Lines: []string{"done"}, Loss: f.loss}, nil
}

func (f *fakeMySQL) SetupMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLSetup) (api.MySQLDone, error) {
	return f.note(who, "setup %s %+v", tag, o)
}

func (f *fakeMySQL) SwitchoverMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLSwitchover) (api.MySQLDone, error) {
	return f.note(who, "switchover %s %+v", tag, o)
}

func (f *fakeMySQL) FailoverMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLFailover) (api.MySQLDone, error) {
	if !o.Force {
		return api.MySQLDone{}, fmt.Errorf("%w: db4 is not cut from db2", api.ErrMySQLState)
	}
	return f.note(who, "failover %s %+v", tag, o)
}

func (f *fakeMySQL) AckMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLNote) (api.MySQLDone, error) {
	return f.note(who, "ack %s %+v", tag, o)
}

func (f *fakeMySQL) PauseMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLNote) (api.MySQLDone, error) {
	return f.note(who, "pause %s %+v", tag, o)
}

func (f *fakeMySQL) ResumeMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLNote) (api.MySQLDone, error) {
	return f.note(who, "resume %s %+v", tag, o)
}

func (f *fakeMySQL) RejoinMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLRejoin) (api.MySQLDone, error) {
	d, err := f.note(who, "rejoin %s %+v", tag, o)
	d.Begun = true
	return d, err
}

func (f *fakeMySQL) CloneMySQL(_ context.Context, who api.Identity, tag string, o api.MySQLClone) (api.MySQLDone, error) {
	d, err := f.note(who, "clone %s %+v", tag, o)
	d.Begun = true
	return d, err
}

func TestMySQLCommands(t *testing.T) {
	f := &fakeMySQL{}
	socket := serveAPI(t, api.Config{MySQL: f})
	for _, c := range []struct {
		args   string
		code   int
		stdout string // parts
		stderr string
		did    string
	}{
		{"status", 0, "├─ db3", "", ""},
		{"status shop-db -o json", 0, `"tag": "shop-db"`, "", ""},
		{"status none", 1, "", "tags/none", ""},
		{"check shop-db", 1, "server does not answer", "", ""},
		{"check shop-db --grants", 0, "GRANT RELOAD", "", ""},
		{"explain shop-db", 0, "db1 was asked 3 times", "", ""},
		{"history shop-db", 0, "failover from db1 to db2", "", ""},
		{"setup shop-db", 0, "done", "", "setup shop-db {Primary: Apply:false Log:hostmesh mysql setup shop-db}"},
		{"setup shop-db --primary db1 --apply -m x", 0, "done", "", "setup shop-db {Primary:db1 Apply:true Log:x}"},
		{"switchover shop-db --to db3", 0, "done", "", "switchover shop-db {To:db3 Log:hostmesh mysql switchover shop-db}"},
		{"failover shop-db", 1, "", "db4 is not cut from db2", ""},
		{"failover shop-db --force", 2, "", "the message is missing", ""},
		{"failover shop-db --force -m fire", 0, "done", "possibly lost: 3 rows", "failover shop-db {Force:true Log:fire}"},
		{"ack shop-db", 0, "done", "", "ack shop-db {Log:hostmesh mysql ack shop-db}"},
		{"pause shop-db -m disks", 0, "done", "", "pause shop-db {Log:disks}"},
		{"resume shop-db", 0, "done", "", "resume shop-db {Log:hostmesh mysql resume shop-db}"},
		{"clone shop-db - db4", 0, "clone db4 done in 3.5s", "", "clone shop-db {From: To:db4 Log:hostmesh mysql clone shop-db - db4}"},
		{"rejoin shop-db db4", 1, "done", "rejoin db4 failed at backup: disk is full", "rejoin shop-db {Host:db4 Log:hostmesh mysql rejoin shop-db db4}"},
		{"rejoin shop-db db4 --no-wait -m x", 0, "done", "", "rejoin shop-db {Host:db4 Log:x}"},
		{"switchover", 2, "", "accepts 1 arg", ""},
	} {
		f.did, f.looks, f.fails, f.loss = nil, 0, "", ""
		if strings.HasPrefix(c.args, "rejoin") {
			f.fails = "disk is full"
		}
		if strings.Contains(c.args, "fire") {
			f.loss = "3 rows"
		}
		code, out, errs := hostmesh(t, append([]string{"--socket", socket, "mysql"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(out, c.stdout) || !strings.Contains(errs, c.stderr) || strings.Join(f.did, "; ") != c.did {
			t.Errorf("mysql %s: exit %d\n%s%s\ndid %q, want %q", c.args, code, out, errs, f.did, c.did)
		}
	}
}
