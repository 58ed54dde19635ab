package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
)

// fakeMySQL has one cluster, and notes what it is told.
type fakeMySQL struct {
	err error
	did []string
}

var fakeCluster = MySQLCluster{
	Tag: "shop-db", VIP: "10.1.0.60", Port: 3306, Record: &MySQLRecord{Epoch: 7, Primary: "db1", Ackers: []string{"db2"}, History: []MySQLEvent{{At: start, Epoch: 7, What: "setup"}}},
	Watcher: &NodeName{ID: "n1"}, Verdict: MySQLVerdict{Name: "healthy", Evidence: []string{"db1 answers"}},
	Servers: []MySQLServer{{Host: "db1", Role: "primary"}}, Tasks: []MySQLTask{{What: "clone", Host: "db2", Began: start}},
}

func (f *fakeMySQL) MySQLClusters(context.Context) (MySQLList, error) {
	return MySQLList{Version: "v1", Clusters: []MySQLCluster{fakeCluster, {Tag: "new", Record: &MySQLRecord{}}}}, f.err
}

func (f *fakeMySQL) MySQLCluster(_ context.Context, tag string) (MySQLCluster, error) {
	if tag != "shop-db" {
		return MySQLCluster{}, fmt.Errorf("tags/%s: %w", tag, ErrNotFound)
	}
	return fakeCluster, f.err
}

func (f *fakeMySQL) CheckMySQL(_ context.Context, tag string) (MySQLCheck, error) {
	return MySQLCheck{Tag: tag, Servers: []MySQLServerCheck{{Host: "db1"}}}, f.err
}

func (f *fakeMySQL) ExplainMySQL(_ context.Context, tag string) (MySQLExplanation, error) {
	return MySQLExplanation{Tag: tag}, f.err
}

func (f *fakeMySQL) note(who Identity, name, tag string, o any) (MySQLDone, error) {
	f.did = append(f.did, fmt.Sprintf("%s: %s %s %+v", who.User, name, tag, o))
	return MySQLDone{Tag: tag}, f.err
}

func (f *fakeMySQL) SetupMySQL(_ context.Context, who Identity, tag string, o MySQLSetup) (MySQLDone, error) {
	return f.note(who, "setup", tag, o)
}

func (f *fakeMySQL) SwitchoverMySQL(_ context.Context, who Identity, tag string, o MySQLSwitchover) (MySQLDone, error) {
	return f.note(who, "switchover", tag, o)
}

func (f *fakeMySQL) FailoverMySQL(_ context.Context, who Identity, tag string, o MySQLFailover) (MySQLDone, error) {
	return f.note(who, "failover", tag, o)
}

func (f *fakeMySQL) AckMySQL(_ context.Context, who Identity, tag string, o MySQLNote) (MySQLDone, error) {
	return f.note(who, "ack", tag, o)
}

func (f *fakeMySQL) PauseMySQL(_ context.Context, who Identity, tag string, o MySQLNote) (MySQLDone, error) {
	return f.note(who, "pause", tag, o)
}

func (f *fakeMySQL) ResumeMySQL(_ context.Context, who Identity, tag string, o MySQLNote) (MySQLDone, error) {
	return f.note(who, "resume", tag, o)
}

func (f *fakeMySQL) RejoinMySQL(_ context.Context, who Identity, tag string, o MySQLRejoin) (MySQLDone, error) {
	return f.note(who, "rejoin", tag, o)
}

func (f *fakeMySQL) CloneMySQL(_ context.Context, who Identity, tag string, o MySQLClone) (MySQLDone, error) {
	return f.note(who, "clone", tag, o)
}

// TestMySQLAccess: who may read sees it, nothing is done for nobody, and what cannot be done has the status that says so.
func TestMySQLAccess(t *testing.T) {
	f := &fakeMySQL{}
	h := NewHandler(Config{MySQL: f, Identify: identify})
	commands := []string{"setup", "switchover", "failover", "ack", "pause", "resume"}
	for _, c := range []struct {
		method, path, body, from, token string
		status                          int
	}{
		{"GET", "/api/v1/mysql", "", near, "", 200},
		{"GET", "/api/v1/mysql", "", far, "", 401},
		{"GET", "/api/v1/mysql/shop-db", "", far, "bob", 200},
		{"GET", "/api/v1/mysql/none", "", near, "", 404},
		{"GET", "/api/v1/mysql/shop-db/check", "", near, "", 200},
		{"GET", "/api/v1/mysql/shop-db/explain", "", near, "", 200},
		{"POST", "/api/v1/mysql/shop-db/rejoin", `{"log":"x"}`, near, "bob", 422},
		{"POST", "/api/v1/mysql/shop-db/clone", `{"log":"x"}`, near, "bob", 422},
		{"GET", "/api/v1/mysql/shop-db/failover", "", near, "bob", 405},
	} {
		if w := askUsers(h, c.method, c.path, c.body, c.from, c.token); w.Code != c.status {
			t.Errorf("%s %s by %q: %d, want %d: %s", c.method, c.path, c.token, w.Code, c.status, w.Body)
		}
	}
	for _, name := range commands {
		for body, status := range map[string]int{`{"log":"x"}`: 401, `{"log":" "}`: 400, `{}`: 422} {
			token := "bob"
			if status == 401 {
				token = ""
			}
			if w := askUsers(h, "POST", "/api/v1/mysql/shop-db/"+name, body, near, token); w.Code != status {
				t.Errorf("%s with %s: %d, want %d: %s", name, body, w.Code, status, w.Body)
			}
		}
	}
	if len(f.did) > 0 {
		t.Errorf("it was done: %q", f.did)
	}
	for err, status := range map[error]int{ErrMySQLState: 409, ErrMySQLAway: 503, hostdb.ErrDenied: 403, ErrNoDuties: 503, hostdb.ErrReadOnly: 503, context.DeadlineExceeded: 504} {
		f.err = fmt.Errorf("%w: because", err)
		for _, name := range commands {
			if w := askUsers(h, "POST", "/api/v1/mysql/shop-db/"+name, `{"log":"x"}`, near, "bob"); w.Code != status || !strings.Contains(w.Body.String(), "because") {
				t.Errorf("%s with %v: %d: %s", name, err, w.Code, w.Body)
			}
		}
	}
}

// TestMySQLClient: client and handler understand each other, and lists are never null.
func TestMySQLClient(t *testing.T) {
	f := &fakeMySQL{}
	c := serve(t, NewHandler(Config{MySQL: f, Identify: identify}), "root")
	ctx := t.Context()
	list, err := c.MySQLClusters(ctx)
	if err != nil || list.Version != "v1" || len(list.Clusters) != 2 || !cmp.Equal(list.Clusters[0], fakeCluster) {
		t.Errorf("%+v, %v\n%s", list, err, cmp.Diff(list.Clusters[0], fakeCluster))
	}
	if n := list.Clusters[1]; n.Servers == nil || n.Tasks == nil || n.Verdict.Evidence == nil || n.Record.Ackers == nil || n.Record.History == nil {
		t.Errorf("a list is null: %+v", n)
	}
	if x, err := c.MySQLCluster(ctx, "shop-db"); err != nil || !cmp.Equal(x, fakeCluster) {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err := c.MySQLCluster(ctx, "a b?c"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "a b?c") {
		t.Error(err)
	}
	check, e1 := c.CheckMySQL(ctx, "shop-db")
	explain, e2 := c.ExplainMySQL(ctx, "shop-db")
	if err := errors.Join(e1, e2); err != nil || check.Notes == nil || check.Grants == nil || check.Servers[0].Settings == nil || explain.Lines == nil {
		t.Errorf("%+v %+v %v", check, explain, err)
	}
	d, e1 := c.SetupMySQL(ctx, "shop db", MySQLSetup{Primary: "db1", Apply: true, Log: "l"})
	_, e2 = c.SwitchoverMySQL(ctx, "shop-db", MySQLSwitchover{To: "db2", Log: "l"})
	_, e3 := c.FailoverMySQL(ctx, "shop-db", MySQLFailover{Force: true, Log: "l"})
	_, e4 := c.AckMySQL(ctx, "shop-db", MySQLNote{Log: "l"})
	_, e5 := c.PauseMySQL(ctx, "shop-db", MySQLNote{Log: "l"})
	_, e6 := c.ResumeMySQL(ctx, "shop-db", MySQLNote{Log: "l"})
	_, e7 := c.RejoinMySQL(ctx, "shop-db", MySQLRejoin{Host: "db1", Log: "l"})
	_, e8 := c.CloneMySQL(ctx, "shop-db", MySQLClone{From: "db2", To: "db3", Log: "l"})
	if err := errors.Join(e1, e2, e3, e4, e5, e6, e7, e8); err != nil || d.Lines == nil || d.Tag != "shop db" {
		t.Errorf("%+v %v", d, err)
	}
	want := []string{
		"root(alice): setup shop db {Primary:db1 Apply:true Log:l}", "root(alice): switchover shop-db {To:db2 Log:l}",
		"root(alice): failover shop-db {Force:true Log:l}", "root(alice): ack shop-db {Log:l}", "root(alice): pause shop-db {Log:l}", "root(alice): resume shop-db {Log:l}",
		"root(alice): rejoin shop-db {Host:db1 Log:l}", "root(alice): clone shop-db {From:db2 To:db3 Log:l}",
	}
	if diff := cmp.Diff(want, f.did); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
