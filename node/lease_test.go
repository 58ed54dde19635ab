package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/lease/raftdisk"
	"hostmesh/node/api"
)

// foundedConfig is the agent of a directory that founded its mesh.
func foundedConfig(t *testing.T, name string) Config {
	t.Helper()
	cfg := testConfig(t, name)
	cfg.KeyFile = filepath.Join(cfg.DataDir, keyName)
	if _, err := Init(InitConfig{DataDir: cfg.DataDir, KeyFile: cfg.KeyFile, Name: name}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (a *testAgent) leads() bool {
	h := a.lease.Health()
	return h.Leads && h.Known
}

// TestMirrorIsADuty: a mesh of one keeps its mirror as the holder of the duty, whatever datacenter its configuration names after the
// mesh was founded.
func TestMirrorIsADuty(t *testing.T) {
	cfg := foundedConfig(t, "box1")
	cfg.Labels.Datacenter = "dc1"
	cfg.Mirror.Git = filepath.Join(t.TempDir(), "history.git")
	cfg.Mirror.Every = "1s"
	cfg.Duties = []string{mirrorDuty} // placing machines is another test's
	a := runAgent(t, cfg)
	subjects := func() string {
		out, _ := exec.Command("git", "-C", cfg.Mirror.Git, "log", "--reverse", "--format=%s", "main").Output()
		return strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ", ")
	}
	putHost(t, a.store, "a")
	wait(t, "the mirror has the host", func() bool { return subjects() == "new: a" })
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	list, err := duties{a.Agent}.Duties(ctx)
	if err == nil { // who places machines is another test's
		list.Duties = slices.DeleteFunc(list.Duties, func(d api.Duty) bool { return d.Duty != mirrorDuty })
	}
	if err != nil || len(list.Duties) != 1 || list.Group.Datacenter != "dc1" || !list.Group.Home || list.Leader != a.NodeID() {
		t.Fatalf("%+v, %v", list, err)
	}
	if d := list.Duties[0]; d.Duty != mirrorDuty || d.Node != a.NodeID() || d.Name != "box1" || d.Fence == 0 || d.Since == nil {
		t.Errorf("%+v", d)
	}
	s := a.Status()
	if len(s.Duties.Holding) != 1 || s.Duties.Holding[0].Fence != list.Duties[0].Fence || !s.Duties.Leads || !s.Duties.Votes {
		t.Errorf("%+v", s.Duties)
	}
	for _, p := range append(s.Problems, api.Diagnose(s)...) {
		if p.Subject == "duties" || p.Subject == "mirror" {
			t.Errorf("%+v", p)
		}
	}
	for _, want := range []string{"hostmesh_lease_duties_held 1", "hostmesh_lease_leader 1", "hostmesh_mirror_holder 1"} {
		if status, text := a.do("GET", "/metrics", nil); status != 200 || !strings.Contains(text, want+"\n") {
			t.Errorf("%d: no metric %q", status, want)
		}
	}
	// Nobody else can take it, so a drain leaves it where it is.
	if d, err := (duties{a.Agent}).DrainNode(ctx, api.Identity{User: "root"}, "BOX1", "memory"); err != nil || d.Node != a.NodeID() || d.Holds != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	problems := slices.DeleteFunc(a.dutyProblems(ctx), func(p api.Problem) bool { return strings.Contains(p.Text, "vm/placer") }) // which this box declines
	if len(problems) != 0 {
		t.Errorf("%+v", problems)
	}
	if n, err := (duties{a.Agent}).UndrainNode(ctx, api.Identity{User: "root"}, a.NodeID()); err != nil || n.Name != "box1" {
		t.Errorf("%+v, %v", n, err)
	}
	first := list.Duties[0].Fence
	a.stop()

	// It keeps its vote and its group over a restart; the next grant has a higher number.
	b := runAgent(t, cfg)
	putHost(t, b.store, "b")
	wait(t, "the mirror goes on", func() bool { return subjects() == "new: a, new: b" })
	if s := b.Status().Duties; len(s.Holding) != 1 || s.Holding[0].Fence <= first || s.Group.ID != list.Group.ID || s.Alarm != "" {
		t.Errorf("%+v, before %d of %s", s, first, list.Group.ID)
	}
}

// TestDutiesKnob: an agent whose duties leave the mirror out says so to who asks, and does not take it.
func TestDutiesKnob(t *testing.T) {
	cfg := foundedConfig(t, "box1")
	cfg.Mirror.Git = filepath.Join(t.TempDir(), "history.git")
	cfg.Duties = []string{"lb"}
	a := runAgent(t, cfg)
	var e api.DutyExplanation
	wait(t, "it declines", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var err error
		e, err = duties{a.Agent}.ExplainDuty(ctx, mirrorDuty)
		return err == nil && len(e.Nodes) == 1
	})
	if e.Nodes[0].Class != "not eligible" || e.Nodes[0].Reason != "duties in its configuration leaves mirror out" || e.Duty.Node != "" {
		t.Errorf("%+v", e)
	}
	var mirror api.DaemonStatus
	for _, d := range a.Status().Daemons {
		if d.Name == "mirror" {
			mirror = d
		}
	}
	if mirror.Idle != "duties in its configuration leaves mirror out" {
		t.Errorf("%+v", mirror)
	}
	found := false
	for _, p := range a.dutyProblems(t.Context()) {
		found = found || p.Text == "nobody holds mirror, and no node is eligible for it" && p.Severity == api.SeverityError
	}
	if !found {
		t.Errorf("the doctor does not know: %+v", a.dutyProblems(t.Context()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	who := api.Identity{User: "root", Admin: true}
	if _, err := (duties{a.Agent}).MoveDuty(ctx, who, mirrorDuty, "box1"); !errors.Is(err, api.ErrDutyConflict) || !strings.Contains(err.Error(), "leaves mirror out") {
		t.Errorf("move: %v", err)
	}
	if _, err := (duties{a.Agent}).MoveDuty(ctx, who, mirrorDuty, "box9"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("move: %v", err)
	}
	if _, err := (duties{a.Agent}).ExplainDuty(ctx, "nothing"); !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "hostmesh duties") {
		t.Errorf("explain: %v", err)
	}
	if _, err := (duties{a.Agent}).FoundDuties(ctx, who, api.FoundDuties{}); !errors.Is(err, api.ErrDutyConflict) {
		t.Errorf("found: %v", err)
	}
	if _, err := (duties{a.Agent}).RecoverDuties(ctx, who, false); !errors.Is(err, api.ErrDutyConflict) {
		t.Errorf("recover: %v", err)
	}
	if _, err := (duties{a.Agent}).UndrainNode(ctx, who, "box1"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("undrain: %v", err)
	}
	v, err := duties{a.Agent}.Voters(ctx)
	if err != nil || len(v.Voters) != 1 || v.Voters[0].Name != "box1" || !v.Voters[0].Voter || v.Voters[0].State != "alive" {
		t.Errorf("%+v, %v", v, err)
	}
	g, err := duties{a.Agent}.RecoverDuties(ctx, who, true)
	if err != nil || g.Generation != 2 || g.ID != v.Group.ID {
		t.Errorf("%+v, %v", g, err)
	}
}

// TestLeaseThatCannotBeOpened: the agent goes on without duties, and says what is wrong.
func TestLeaseThatCannotBeOpened(t *testing.T) {
	for _, c := range []struct {
		name, want, remedy string
		spoil              func(t *testing.T, dir, node string)
	}{
		{"another process has it", "in use", "end it", func(t *testing.T, dir, node string) {
			d, err := raftdisk.Open(raftdisk.Config{Path: dir, Node: node})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
		}},
		{"of a newer build", "newer", "install that again", func(t *testing.T, dir, _ string) {
			if err := os.WriteFile(filepath.Join(dir, "group.json"), []byte(`{"version": 99}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file in its place", "lease", "restart this agent", func(t *testing.T, dir, _ string) {
			if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := foundedConfig(t, "box1")
			cfg.Mirror.Git = filepath.Join(t.TempDir(), "history.git")
			node, err := os.ReadFile(filepath.Join(cfg.DataDir, nodeIDName))
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, filepath.Join(cfg.DataDir, leaseDir), strings.TrimSpace(string(node)))
			a := runAgent(t, cfg)
			putHost(t, a.store, "a") // the rest goes on
			s := a.Status()
			problems := api.Diagnose(s)
			if len(problems) == 0 || problems[0].Subject != "duties" || !strings.Contains(problems[0].Text, c.want) || !strings.Contains(problems[0].Remedy, c.remedy) {
				t.Errorf("%+v", problems)
			}
			_, err = duties{a.Agent}.Duties(t.Context())
			if !errors.Is(err, api.ErrNoDuties) || !strings.Contains(err.Error(), c.remedy) {
				t.Errorf("%v", err)
			}
			wait(t, "the mirror says why it is idle", func() bool { return strings.Contains(a.mirror.status().Idle, "takes no part in duties") })
		})
	}
}

// TestInitFoundsDuties: a new mesh has its group from the beginning, and init tells when it could not be made.
func TestInitFoundsDuties(t *testing.T) {
	dir := shortDir(t)
	res, err := Init(InitConfig{DataDir: dir, Name: "box1"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := raftdisk.Open(raftdisk.Config{Path: filepath.Join(dir, leaseDir), Node: res.NodeID})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if g, ok := d.Group(); !ok || !g.Home || g.Generation != 1 || !d.Pending() {
		t.Errorf("%+v %v, pending %v", g, ok, d.Pending())
	}
	other := shortDir(t)
	if err := os.WriteFile(filepath.Join(other, leaseDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(InitConfig{DataDir: other}); err == nil || !strings.Contains(err.Error(), "the agent founds it when it starts") {
		t.Errorf("%v", err)
	}
}

// TestBackupsHaveNoVotes: nothing of raft is in a backup, and a restored directory has none.
func TestBackupsHaveNoVotes(t *testing.T) {
	cfg := foundedConfig(t, "box1")
	a := runAgent(t, cfg)
	wait(t, "it leads", a.leads)
	putHost(t, a.store, "a")
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	if _, err := a.lease.Put(ctx, "secret/of/the/lease", []byte("only the lease knows this"), 0); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := a.keeper.WriteBackup(ctx, file); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(shortDir(t), "d")
	res, err := RestoreBackup(ctx, file, RestoreConfig{DataDir: dir, Logger: a.log})
	if err != nil {
		t.Fatal(err)
	}
	if res.NodeID == a.NodeID() {
		t.Error("the restored node has the old one's id")
	}
	if _, err := os.Stat(filepath.Join(dir, leaseDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a restored directory has something of raft: %v", err)
	}
}

// TestExamineDuties: what the doctor makes of what the leader tells.
func TestExamineDuties(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	id := func(i int) string { return fmt.Sprintf("%032x", i) }
	members := func(n int, since time.Duration) (list []mesh.Member) {
		for i := range n {
			list = append(list, mesh.Member{ID: id(i), Name: fmt.Sprintf("box%d", i), Datacenter: "dc1", State: mesh.StateAlive, Since: now.Add(-since)})
		}
		return list
	}
	servers := func(n int) (v lease.Voters) {
		for i := range n {
			v.Servers = append(v.Servers, lease.Server{Node: id(i), Voter: true})
		}
		return v
	}
	for _, c := range []struct {
		name string
		list []lease.Status
		v    lease.Voters
		m    []mesh.Member
		want string
	}{
		{"all is well", []lease.Status{{Duty: "mirror", Node: id(0), Candidates: 1}}, servers(3), members(3, time.Hour), ""},
		{"nobody is eligible", []lease.Status{{Duty: "mirror"}}, servers(1), members(1, time.Hour), "error nobody holds mirror, and no node is eligible for it"},
		{"soon somebody", []lease.Status{{Duty: "mirror", Candidates: 2}}, servers(1), members(1, time.Hour), "notice nobody holds mirror yet"},
		{"a hand-over that is on its way", []lease.Status{{Duty: "mirror", Node: id(0), Over: "moved", OverMS: 2000}}, servers(1), members(1, time.Hour), ""},
		{"a holder that does not hand over", []lease.Status{{Duty: "mirror", Node: id(0), Over: "moved", OverMS: 60_000}}, servers(1), members(1, time.Hour),
			"error box0 does not hand mirror over: moved"},
		{"too few voters", nil, servers(1), members(3, time.Hour), "notice 1 of 3 voters are there"},
		{"too few voters, yet", nil, servers(1), members(3, time.Second), ""},
		{"too few voters, and what is next", nil, lease.Voters{Want: "add " + id(2) + ": why"}, members(1, time.Hour), "notice 0 of 1 voters are there; next: add " + id(2) + ": why"},
		{"drained for long", nil, lease.Voters{Servers: servers(1).Servers, Drained: []lease.Drain{{Node: id(0), Reason: "memory", At: now.Add(-50 * time.Hour).UnixMilli()}}},
			members(1, time.Hour), "notice box0 has been drained for 2 days: memory"},
		{"owing", nil, lease.Voters{Servers: servers(1).Servers, Owing: []string{id(0), id(9)}}, members(1, time.Hour),
			"notice box0 has not brought in what it owns since the group was founded or recovered: no name or grant is made until then; notice " + id(9) +
				" has not brought in what it owns since the group was founded or recovered: no name or grant is made until then"},
	} {
		var got []string
		for _, p := range examineDuties(lease.Group{Datacenter: "dc1"}, c.list, c.v, c.m, now) {
			if p.Subject != "duties" || p.Remedy == "" {
				t.Errorf("%s: %+v", c.name, p)
			}
			got = append(got, p.Severity+" "+p.Text)
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, strings.Join(got, "; "), c.want)
		}
	}
}

// TestDutyErrors: every error of the lease has a kind, and those that a person can do something about say what.
func TestDutyErrors(t *testing.T) {
	d := duties{&Agent{}}
	for _, c := range []struct {
		err, kind error
		say       string
	}{
		{lease.ErrNoGroup, api.ErrNoDuties, "hostmesh duties found"}, {lease.ErrNoLeader, api.ErrNoDuties, "hostmesh duties recover"},
		{lease.ErrUnknown, api.ErrNoDuties, "look"}, {lease.ErrHasGroup, api.ErrDutyConflict, ""}, {lease.ErrQuorum, api.ErrDutyConflict, "voters"},
		{lease.ErrIneligible, api.ErrDutyConflict, "explain"}, {lease.ErrRecovering, api.ErrDutyConflict, ""}, {lease.ErrNotFound, api.ErrNotFound, ""},
		{lease.ErrInvalid, hostdb.ErrInvalid, ""}, {lease.ErrClosed, api.ErrNoDuties, ""},
	} {
		err := d.of(fmt.Errorf("deep: %w", c.err))
		if !errors.Is(err, c.kind) || !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	if d.of(nil) != nil {
		t.Error("nil is an error")
	}
	if err := d.ofRecovery(errors.New("voter box2 has entry 9")); !errors.Is(err, api.ErrDutyConflict) {
		t.Errorf("%v", err)
	}
}

// TestLeaseClock: a wall that is wrong or jumps has no part in who may act.
func TestLeaseClock(t *testing.T) {
	wall := &movedClock{now: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}
	c := leaseClock{wall}
	before := c.Boot()
	wall.now = wall.now.Add(-100 * time.Hour)
	if now := c.Now(); !now.Equal(wall.now) {
		t.Errorf("wall %s", now)
	}
	if d := c.Boot() - before; d < 0 || d > time.Hour {
		t.Errorf("the clock of the lease went by %s", d)
	}
}

type movedClock struct{ now time.Time }

func (c *movedClock) Now() time.Time { return c.now }
