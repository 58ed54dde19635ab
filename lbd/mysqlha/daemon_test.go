package mysqlha_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mysqlhatest"
	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// written is HostDB with these documents.
func written(t *testing.T, docs map[string]string) hostdb.View {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.Update(context.Background(), hostdb.Request{User: "test", Log: "test", Lenient: true}, func(tx *hostdb.Tx) error {
		for _, id := range slices.Sorted(maps.Keys(docs)) { // hosts before those who list them
			text := docs[id]
			ns, key, _ := strings.Cut(id, "/")
			if key, ok := strings.CutSuffix(key, "/members"); ok {
				list, err := hostdb.ParseMembers(text)
				if err != nil {
					return err
				}
				if err := tx.SetMembers(ns, key, list); err != nil {
					return err
				}
				continue
			}
			doc, err := hostdb.ParseDocument([]byte(text))
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			if err := tx.Put(ns, key, doc); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.View()
}

const cluster = "MySQL: {VIP: 192.0.2.60, Credentials: shop, Failover: auto}\n"

func shop() map[string]string {
	return map[string]string{
		"tags/net":     "Subnet: {CIDR: 192.0.2.0/24, VIPs: 192.0.2.48/28, Datacenter: dc1}\n",
		"tags/shop-db": cluster, "tags/shop-db/members": "a\nb\nc\n",
		"hosts/a": "Network: {IP: 192.0.2.1}\n", "hosts/b": "Network: {IP: 192.0.2.2}\n", "hosts/c": "Network: {IP: 192.0.2.3}\n",
	}
}

// around is a mesh whose agents say what the fake world's do.
type around struct {
	w       *mysqlhatest.World
	changed chan struct{}
}

func (a *around) WatchMembers() (<-chan struct{}, func()) { return a.changed, func() {} }

func (a *around) View() mesh.View {
	list := []mesh.Member{{ID: "watcher", Name: "watcher", State: mesh.StateAlive}}
	agents := a.w.Agents("watcher")
	for host, x := range agents {
		m := mesh.Member{ID: host, Name: host, State: mesh.StateAlive}
		if !x.Alive {
			m.State = mesh.StateFailed
		}
		list = append(list, m)
	}
	v := mesh.NewView("watcher", list)
	for host, x := range agents {
		v = v.WithReport(report.Report{Node: host, N: 1, MySQL: map[string]report.MySQL{"shop-db": {Process: string(x.Process), Since: x.Since.UnixMilli(), VIP: x.VIP, Port: 3306}}})
	}
	return v
}

// duties grants whatever is asked for, at once.
type duties struct {
	w *mysqlhatest.World

	mu       sync.Mutex
	declined map[string]string
	avoided  map[string]string
}

type granted struct {
	w *mysqlhatest.World
	n uint64
}

func (g granted) Valid() bool    { return g.w.Granted(g.n) }
func (g granted) Number() uint64 { return g.n }

func (l *duties) Campaign(ctx context.Context, duty string, hold func(context.Context, mysqlha.Grant) error) error {
	if duty != "mysql/shop-db" {
		return fmt.Errorf("duty %q", duty)
	}
	return hold(ctx, granted{l.w, l.w.Grant()})
}

func (l *duties) Decline(duty, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.declined[duty] = reason
}

func (l *duties) Avoid(duty, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.avoided[duty] = reason
}

func (l *duties) Home() (bool, bool) { return true, true }

type opened struct{ mysqlha.World }

func (opened) Close() error { return nil }

func daemon(t *testing.T, w *mysqlhatest.World, edit func(c *mysqlha.Config)) (*mysqlha.Daemon, *duties, *around) {
	t.Helper()
	l := &duties{w: w, declined: map[string]string{}, avoided: map[string]string{}}
	m := &around{w, make(chan struct{}, 1)}
	cfg := mysqlha.Config{
		Node: "watcher", Name: "watcher", Datacenter: "dc1", Lease: l, Mesh: m, Logger: logger(),
		Open: func(tag, credentials string) (mysqlha.Effects, error) {
			if tag != "shop-db" || credentials != "shop" {
				return nil, errors.New("other accounts")
			}
			return opened{w.At("watcher")}, nil
		},
		Usable: func(string) string { return "" },
		Records: func(g mysqlha.Grant) mysqlha.Records {
			if g == nil {
				return w.RecordsAt("watcher", 0)
			}
			return w.RecordsAt("watcher", g.Number())
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	d, err := mysqlha.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d, l, m
}

func TestDaemonWatchesOverAClusterFromNothing(t *testing.T) {
	db := written(t, shop())
	without := written(t, map[string]string{"tags/shop-db": "X: 1\n"})
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		w.NoRecord()
		d, _, m := daemon(t, w, nil)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		if _, err := d.Watching("shop-db"); err == nil {
			t.Error("it watches over what it has not heard of")
		}
		if err := d.Reconcile(ctx, db, m.View()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		watch, err := d.Watching("shop-db")
		if err != nil {
			t.Fatal(err)
		}
		if p := watch.Picture(); p.Diagnoses[0].Name != mysqlha.NoRecord {
			t.Fatalf("%+v", p.Diagnoses)
		}
		plan, err := watch.Setup(ctx, "", false, "somebody")
		if err != nil || len(plan.Lines) == 0 || w.Record().Format != 0 {
			t.Fatalf("a plan alone: %+v, %v, %+v", plan, err, w.Record())
		}
		if _, err := watch.Setup(ctx, "b", true, "somebody"); !errors.Is(err, mysqlha.ErrState) {
			t.Fatalf("a replica made the primary: %v", err)
		}
		if _, err := watch.Setup(ctx, "", true, "somebody"); err != nil {
			t.Fatal(err)
		}
		told := func() bool {
			select {
			case m.changed <- struct{}{}:
			default:
			}
			return whole(w, 3)()
		}
		settle(t, w, 20*time.Second, "a whole cluster", told)
		c := write(t, w)
		time.Sleep(time.Second)
		w.Kill("a")
		settle(t, w, 20*time.Second, "another primary", func() bool { return told() && w.Record().Primary != "a" })
		c.end()
		nothingLost(t, w)
		reg := prometheus.NewPedanticRegistry()
		if err := reg.Register(d.Collector()); err != nil {
			t.Fatal(err)
		}
		if families, err := reg.Gather(); err != nil || len(families) < 9 {
			t.Errorf("%d metrics, %v", len(families), err)
		}
		if s := d.State(); len(s) != 1 || !s[0].Held || s[0].Fence == 0 || s[0].Picture == nil || len(mysqlha.Explain(s[0].Picture)) < 5 {
			t.Errorf("%+v", s)
		}
		// The section goes, and with it the campaign.
		if err := d.Reconcile(ctx, without, m.View()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := d.Watching("shop-db"); err == nil {
			t.Error("it watches over a cluster that is none any more")
		}
	})
}

func TestDaemonSaysWhyItDoesNotOfferItself(t *testing.T) {
	for _, c := range []struct {
		name, want string
		docs       map[string]string
		edit       func(c *mysqlha.Config)
	}{
		{"no accounts", "credentials.d/shop.yaml is not here", nil, func(c *mysqlha.Config) {
			c.Usable = func(string) string { return "credentials.d/shop.yaml is not here" }
		}},
		{"another datacenter", `in datacenter "dc2"`, nil, func(c *mysqlha.Config) { c.Datacenter = "dc2" }},
		{"no duties", "leaves mysql out", nil, func(c *mysqlha.Config) { c.Unfit = "duties in its configuration leaves mysql out" }},
		{"no subnet", "no tag's Subnet", map[string]string{"tags/net": "Subnet: {CIDR: 192.0.2.0/24}\n"}, nil},
		{"a section that makes no sense", "MySQL/VIP", map[string]string{"tags/shop-db": "MySQL: {VIP: nonsense, Credentials: shop}\n"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs := shop()
			for id, text := range c.docs {
				docs[id] = text
			}
			db := written(t, docs)
			synctest.Test(t, func(t *testing.T) {
				w := mysqlhatest.New("shop-db", 3, true)
				defer w.Close()
				d, l, m := daemon(t, w, c.edit)
				if err := d.Reconcile(t.Context(), db, m.View()); err != nil {
					t.Fatal(err)
				}
				if got := l.declined["mysql/shop-db"]; !strings.Contains(got, c.want) {
					t.Errorf("it said %q, want %q", got, c.want)
				}
				plan, err := d.Plan(t.Context(), db, m.View())
				if err != nil || !strings.Contains(plan, "not offer for mysql/shop-db: ") {
					t.Errorf("%q, %v", plan, err)
				}
			})
		})
	}
}

func TestDaemonThatObservesTouchesNothing(t *testing.T) {
	db := written(t, shop())
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		d, l, m := daemon(t, w, func(c *mysqlha.Config) { c.Observe = true })
		var mu sync.Mutex
		var touched []string
		w.OnEffect(func(host, what string) {
			mu.Lock()
			defer mu.Unlock()
			touched = append(touched, host+" "+what)
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		if _, err := d.Plan(ctx, db, m.View()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.Freeze("a", true)
		time.Sleep(5 * time.Second)
		plan, err := d.Plan(ctx, db, m.View())
		if err != nil || !strings.Contains(plan, "primary silent") || !strings.Contains(plan, "failover a") {
			t.Errorf("%q, %v", plan, err)
		}
		watch, err := d.Watching("shop-db")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Failover(ctx, true, "somebody", "a test"); !errors.Is(err, mysqlha.ErrState) {
			t.Errorf("a command to one that only observes: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(touched) > 0 || len(l.declined) > 0 || w.Record().Epoch != 1 {
			t.Errorf("touched: %q, %v, %+v", touched, l.declined, w.Record())
		}
	})
}

func TestTenure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mysqlhatest.New("shop-db", 3, true)
		defer w.Close()
		var ackers atomic.Int64
		tenure := mysqlha.NewTenure("shop-db", "a", 1, w.RecordsAt("a", 0), func(context.Context) (int, bool) { return int(ackers.Load()), true }, logger())
		if tenure.Valid() {
			t.Error("valid before anybody looked")
		}
		ended := make(chan error, 1)
		go func() { ended <- tenure.Run(w.Context()) }()
		time.Sleep(100 * time.Millisecond)
		ago, left := tenure.Renewal()
		if !tenure.Valid() || ago > 100*time.Millisecond || ago+left != 2*time.Second {
			t.Errorf("valid %v, renewed %s ago, %s left", tenure.Valid(), ago, left)
		}
		select {
		case <-tenure.Renewed():
		default:
			t.Error("nobody was told that it was renewed")
		}
		if !tenure.Settled() {
			t.Error("the record says so, and it may not stay for a while")
		}
		w.Quorum(false) // nobody answers, and nobody acknowledges
		time.Sleep(1500 * time.Millisecond)
		if !tenure.Valid() {
			t.Error("it ended before its time")
		}
		ackers.Store(1)
		time.Sleep(5 * time.Second)
		if !tenure.Valid() {
			t.Error("one that is acknowledged cannot have been replaced")
		}
		if tenure.Settled() {
			t.Error("without a record that says so it may not stay where nobody looks")
		}
		ackers.Store(0)
		time.Sleep(3 * time.Second)
		if tenure.Valid() {
			t.Error("valid without anybody who says so")
		}
		w.Quorum(true)
		time.Sleep(2 * time.Second)
		if !tenure.Valid() {
			t.Errorf("the quorum is back: %q", tenure.Why())
		}
		h := w.Hold("watcher", nil, nil, logger())
		time.Sleep(time.Second)
		w.Freeze("a", true)
		if err := <-ended; err == nil || tenure.Why() == "" || tenure.Valid() {
			t.Errorf("a failover has begun, and it is valid: %v, %q", tenure.Valid(), tenure.Why())
		}
		h.Kill()
	})
}
