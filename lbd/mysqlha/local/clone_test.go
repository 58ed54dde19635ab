package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// filled is a world of a primary, a replica of it that has some MB, and further boxes that have nothing.
func filled(t *testing.T, n int) (*world, func() int64) {
	t.Helper()
	w := newWorld(t, n, true)
	primary, donor := w.boxes[1], w.boxes[2]
	primary.server.Exec("CREATE DATABASE d", "USE d", "CREATE TABLE d.t (i INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(1000))", "CREATE TABLE d.m (i INT PRIMARY KEY, v VARCHAR(100))",
		"INSERT INTO d.t (v) SELECT REPEAT(SEQ, 100) FROM seq_1_to_20000", "INSERT INTO d.m SELECT SEQ, SEQ FROM seq_1_to_1000")
	donor.follow(primary)
	donor.server.Await(primary.server.Text("SELECT @@gtid_current_pos"), "SELECT @@gtid_current_pos")
	return w, func() int64 { return used(donor.server.Datadir) }
}

// writes inserts into the primary until stop, which returns how many there were: when it returns, none is under way.
func (b *box) writes(t *testing.T) (stop func() int64) {
	var stopped atomic.Bool
	var n atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stopped.Load() {
			// A write that is given up may be carried out later, when rows have been counted: the last one is waited for.
			if _, err := b.server.Root().ExecContext(t.Context(), "INSERT INTO d.t (v) VALUES (REPEAT('x', 500))"); err != nil {
				if t.Context().Err() == nil {
					t.Errorf("a write fails: %v", err)
				}
				return
			}
			n.Add(1)
			time.Sleep(2 * time.Millisecond)
		}
	})
	return sync.OnceValue(func() int64 { stopped.Store(true); wg.Wait(); return n.Load() })
}

// same reports that two boxes have the same rows, once the second has caught up.
func sameRows(t *testing.T, primary, b *box) {
	t.Helper()
	rows := primary.server.Text("SELECT COUNT(*) FROM d.t")
	b.server.Await(rows, "SELECT COUNT(*) FROM d.t")
	for _, table := range []string{"d.t", "d.m"} {
		var sums [2]string
		for i, x := range []*box{primary, b} {
			var name string
			mustDo(t, x.server.Root().QueryRow("CHECKSUM TABLE "+table+" EXTENDED").Scan(&name, &sums[i]))
		}
		if sums[0] != sums[1] {
			t.Errorf("%s has checksum %s at %s and %s at %s, %s rows", table, sums[0], primary.name(), sums[1], b.name(), b.server.Text("SELECT COUNT(*) FROM "+table))
		}
	}
}

// tidy fails when a clone has left something, or the server does not run.
func (b *box) tidy() {
	b.w.t.Helper()
	d := dirsOf(b.server.Datadir)
	until(b.w.t, "what a clone has left is removed", func() bool { return !there(d.fresh) && !there(d.third) })
	for _, name := range []string{markFile, positionFile} {
		if there(d.file(name)) {
			b.w.t.Errorf("%s is left", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "copy-*")); len(left) > 0 {
		b.w.t.Errorf("%q are left", left)
	}
	if st, err := b.local().servers[tag].store.get(); err != nil || st.Clone != nil || st.Donates {
		b.w.t.Errorf("its file says %+v (%v)", st, err)
	}
	b.noSecrets()
}

// TestADonorThatWasKilledLendsNoMore: an agent that was killed while a copy was given takes note that none is, also where it hears of the server only when it runs already. Else nobody would be made a copy of that for ever.
func TestADonorThatWasKilledLendsNoMore(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	b := newWorld(t, 1, true).boxes[1]
	h := b.local()
	mustDo(t, h.servers[tag].store.note(func(st *state) { st.Donates = true }))
	mustDo(t, h.Apply(nil))
	mustDo(t, h.Apply([]Member{b.member()}))
	until(t, "no copy is given", func() bool {
		st, err := b.local().servers[tag].store.get()
		return err == nil && !st.Donates
	})
	until(t, "it is reported", func() bool { return !b.last().Lends })
}

// TestClone: under constant writes a new server becomes a copy of a replica, and follows from its position; from a primary as well; and by a dump where nothing else is there.
func TestClone(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, size := filled(t, 3)
	primary, donor, b := w.boxes[1], w.boxes[2], w.boxes[3]
	b.server.Exec("CREATE DATABASE stale")
	for i, from := range []*box{donor, primary} {
		stop := primary.writes(t)
		defer stop()
		time.Sleep(50 * time.Millisecond)
		began := time.Now()
		var most mysqlha.CloneProgress
		position, err := NewRemote(w, b.name()).Clone(t.Context(), order(1, uint64(i+1)), from.name(), func(p mysqlha.CloneProgress) {
			if p.Bytes > most.Bytes {
				most = p
			}
		})
		mustDo(t, err)
		t.Logf("%d MB cloned from %s after %s, at %s; progress %+v", size()>>20, from.name(), time.Since(began), position, most)
		if got := b.server.Text("SHOW DATABASES LIKE 'stale'"); got != "" {
			t.Error("the old data is there")
		}
		if b.server.Text("SELECT @@gtid_current_pos") != position || b.server.Global("READ_ONLY") != "ON" {
			t.Errorf("it is at %s, read_only %s", b.server.Text("SELECT @@gtid_current_pos"), b.server.Global("READ_ONLY"))
		}
		b.follow(primary)
		n := stop()
		if n == 0 {
			t.Error("nothing was written meanwhile")
		}
		sameRows(t, primary, b)
		if state := from.server.Text("SELECT 'still'"); state != "still" {
			t.Error("the donor does not serve")
		}
		for _, x := range w.boxes[1:] {
			x.tidy()
		}
	}
	sameRows(t, primary, donor)
}

// TestDump: where mariadb-backup is missing a dump does.
func TestDump(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	primary, donor, b := w.boxes[1], w.boxes[2], w.boxes[3]
	for _, x := range []*box{donor, b} {
		x.edit = func(c *Config) {
			c.program = func(name string) (string, error) {
				if strings.Contains(name, "backup") || strings.Contains(name, "mbstream") {
					return "", exec.ErrNotFound
				}
				return exec.LookPath(name)
			}
		}
		x.reopen()
	}
	grants, err := mariadb.DumpGrants(donor.server.Accounts, []string{"%"})
	mustDo(t, err)
	donor.server.Exec(append([]string{"SET sql_log_bin=0", "CREATE VIEW d.v AS SELECT i FROM d.t", "CREATE TRIGGER d.g BEFORE INSERT ON d.m FOR EACH ROW SET NEW.v = 'x'"}, grants...)...)
	stop := primary.writes(t)
	defer stop()
	position, err := b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
	mustDo(t, err)
	if now := b.server.Text("SELECT @@gtid_current_pos"); now != position {
		t.Errorf("it is at %s, want %s", now, position)
	}
	if b.server.Text("SELECT COUNT(*) FROM d.v") == "0" || b.server.Text("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA='d'") != "g" {
		t.Error("a view or a trigger is not there")
	}
	b.follow(primary)
	stop()
	sameRows(t, primary, b)
	b.tidy()
}

// TestCloneBegins: what is refused before anything is touched.
func TestCloneBegins(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	primary, donor, b := w.boxes[1], w.boxes[2], w.boxes[3]
	untouched := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		for _, x := range w.boxes[1:] {
			if s := x.state(); s.Process != mysqlha.ProcessRuns {
				t.Errorf("%s: %s stands as %+v", what, x.name(), s)
			}
			x.noSecrets(err)
		}
		until(t, what+": the donor has ended", func() bool { return donor.local().donor.current() == nil })
	}
	_, err := primary.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
	untouched("a primary", err, ErrWritable)

	// Another agent's clone from there.
	held := make(chan struct{})
	b.edit = func(c *Config) { c.Donors = slow{c.Donors, held} }
	b.reopen()
	done := make(chan error, 1)
	go func() { _, err := b.local().Clone(context.Background(), order(1, 1), donor.name(), nil); done <- err }()
	until(t, "it has begun", func() bool { return donor.local().donor.current() != nil })
	if _, err := (PeerDonors{w}).OpenDonor(t.Context(), donor.name(), order(1, 1), []string{MethodBackup}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second copy: %v", err)
	}
	if err := b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica); !errors.Is(err, ErrBusy) {
		t.Errorf("Start: %v", err)
	}
	if _, err := b.local().Clone(t.Context(), order(1, 1), primary.name(), nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a second clone: %v", err)
	}
	if _, err := (PeerDonors{w}).OpenDonor(t.Context(), donor.name(), order(0, 1), []string{MethodBackup}); !errors.Is(err, mysqlha.ErrOvertaken) {
		t.Errorf("under an old order: %v", err)
	}
	close(held)
	mustDo(t, <-done)
	b.edit = nil
	b.reopen()

	// A file system of the datadir's own, and one that is too small.
	mustDo(t, b.local().Stop(t.Context(), order(1, 1)))
	b.close()
	small := filepath.Join(b.server.Dir, "small")
	mustDo(t, os.Mkdir(small, 0o755))
	mustDo(t, syscall.Mount("none", small, "tmpfs", 0, fmt.Sprintf("size=%d", used(b.server.Datadir)+(24<<20))))
	t.Cleanup(func() { b.clean(); _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	data := filepath.Join(small, "data")
	if out, err := exec.Command("cp", "-a", "--sparse=always", b.server.Datadir, data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run(t, "sed", "-i", "s#^datadir=.*#datadir="+data+"#", b.server.Config)
	b.server.Accounts.Server.Datadir, b.server.Datadir = data, data
	b.open()
	mustDo(t, b.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))
	_, err = b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
	untouched("a small disk", err, ErrSpace)

	// The estimate is wrong, and the disk is full in the middle.
	b.server.Exec("CREATE DATABASE mine")
	b.edit = func(c *Config) { c.Donors = liar{c.Donors} }
	b.reopen()
	_, err = b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
	if !strings.Contains(fmt.Sprint(err), "space") && !strings.Contains(fmt.Sprint(err), "28") {
		t.Errorf("the error does not say that the disk is full: %v", err)
	}
	untouched("a disk that gets full", err, ErrClone)
	if b.server.Text("SHOW DATABASES LIKE 'mine'") != "mine" {
		t.Error("the old data is not back")
	}
	b.tidy()
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
}

// liar says that copies are small.
type liar struct{ Donors }

type lie struct{ Copy }

func (lie) Total() int64 { return -60 << 20 }

func (l liar) OpenDonor(ctx context.Context, host string, o mysqlha.Order, methods []string) (Copy, error) {
	c, err := l.Donors.OpenDonor(ctx, host, o, methods)
	return lie{c}, err
}

// slow holds a copy back after its first bytes.
type slow struct {
	Donors
	until <-chan struct{}
}

type held struct {
	Copy
	until <-chan struct{}
	n     int
	after int
	then  func()
}

func (h *held) Read(p []byte) (int, error) {
	if h.n > h.after {
		if h.then != nil {
			h.then()
			h.then = nil
		}
		<-h.until
	}
	n, err := h.Copy.Read(p)
	h.n += n
	return n, err
}

func (s slow) OpenDonor(ctx context.Context, host string, o mysqlha.Order, methods []string) (Copy, error) {
	c, err := s.Donors.OpenDonor(ctx, host, o, methods)
	return &held{Copy: c, until: s.until}, err
}

// TestDonorEnds: when the donor's server, program or agent ends in the middle, the old data is back, and the donor applies again.
func TestDonorEnds(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	primary, donor, b := w.boxes[1], w.boxes[2], w.boxes[3]
	b.server.Exec("CREATE DATABASE mine")
	for what, end := range map[string]func(){
		"agent":   func() { donor.reopen() },
		"program": func() { donor.local().donor.current().cancel() },
		"server":  func() { donor.die() },
	} {
		t.Run(what, func(t *testing.T) {
			go1 := make(chan struct{})
			b.edit = func(c *Config) { c.Donors = ending{c.Donors, go1, end} }
			b.reopen()
			close(go1)
			_, err := b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
			if !errors.Is(err, ErrClone) {
				t.Fatalf("Clone: %v", err)
			}
			t.Log(err)
			if s := b.state(); s.Process != mysqlha.ProcessRuns || b.server.Text("SHOW DATABASES LIKE 'mine'") != "mine" {
				t.Errorf("afterwards: %+v", s)
			}
			b.tidy()
			if what == "server" {
				mustDo(t, donor.local().Start(t.Context(), order(1, 1), mysqlha.AsReplica))
				donor.server.Exec("START SLAVE")
			}
			primary.server.Exec("INSERT INTO d.t (v) VALUES ('afterwards')")
			sameRows(t, primary, donor)
			donor.tidy()
		})
	}
}

// ending does something after the first bytes.
type ending struct {
	Donors
	until <-chan struct{}
	end   func()
}

func (s ending) OpenDonor(ctx context.Context, host string, o mysqlha.Order, methods []string) (Copy, error) {
	c, err := s.Donors.OpenDonor(ctx, host, o, methods)
	return &held{Copy: c, until: s.until, after: 1 << 10, then: s.end}, err
}

// TestAgentEndsInClone: the agent ends at each step in turn, and the next one has the old data served, or the new; then a clone succeeds.
func TestAgentEndsInClone(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	primary, donor, b := w.boxes[1], w.boxes[2], w.boxes[3]
	b.server.Exec("CREATE DATABASE mine")
	for _, step := range []string{pointStopped, pointFilled, pointReady, pointSwapped, pointStarted, pointServed} {
		t.Run(step, func(t *testing.T) {
			b.abandonAt(t, step, donor.name())
			b.open()
			until(t, "the clone is over", func() bool { st, _ := b.local().servers[tag].store.get(); return st.Clone == nil })
			until(t, "the server runs", func() bool { return b.state().Process == mysqlha.ProcessRuns && b.served() })
			has := b.server.Text("SHOW DATABASES LIKE 'mine'") + b.server.Text("SHOW DATABASES LIKE 'd'")
			t.Logf("after the agent ended at %s the server has %q", step, has)
			if has != "mine" && has != "d" {
				t.Errorf("the data is %q", has)
			}
			b.tidy()
			// Nobody has compared the copy; the former data are what they were.
			if u := b.state().Copy; (u != nil) != (has == "d") {
				t.Errorf("the data is %q, and is remembered as %+v", has, u)
			}
			until(t, "it is found right", func() bool { return b.local().Compared(t.Context(), order(1, 1), "") == nil })
			if has == "d" {
				b.follow(primary)
				sameRows(t, primary, b)
				b.server.Exec("STOP SLAVE", "RESET SLAVE ALL", "SET sql_log_bin=0", "DROP DATABASE d")
				b.server.Exec("SET sql_log_bin=0", "CREATE DATABASE mine")
			}
		})
	}
	b.reopen() // which forgets the result of the last one
	_, err := b.local().Clone(t.Context(), order(1, 1), donor.name(), nil)
	mustDo(t, err)
	b.follow(primary)
	sameRows(t, primary, b)
	b.tidy()
}

// TestKillInClone: a fence ends a clone, and the server does not start.
func TestKillInClone(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	w, _ := filled(t, 3)
	donor, b := w.boxes[2], w.boxes[3]
	until1 := make(chan struct{})
	b.edit = func(c *Config) { c.Donors = slow{c.Donors, until1} }
	b.reopen()
	done := make(chan error, 1)
	go func() { _, err := b.local().Clone(context.Background(), order(1, 1), donor.name(), nil); done <- err }()
	until(t, "it has begun", func() bool { st, _ := b.local().servers[tag].store.get(); return st.Clone != nil })
	mustDo(t, b.local().Kill(t.Context(), order(2, 2), "a failover"))
	close(until1)
	if err := <-done; !errors.Is(err, ErrClone) || !errors.Is(err, mysqlha.ErrOvertaken) {
		t.Errorf("Clone: %v", err)
	}
	if s := b.state(); s.Process != mysqlha.ProcessStopped || s.Marked == "" || b.served() {
		t.Errorf("afterwards: %+v", s)
	}
	b.edit = nil
	b.tidy()
	b.reopen()
	_, err := b.local().Clone(t.Context(), order(2, 2), donor.name(), nil)
	mustDo(t, err)
	if !b.served() {
		t.Error("a clone does not serve")
	}
}

// abandon has a server do nothing any more, as when its agent was killed.
func (s *server) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	close(s.stopped)
	s.clone.mu.Lock()
	defer s.clone.mu.Unlock()
	s.clone.run.cancel(ErrClosed)
}

// TestLostAnswer: a clone of which somebody was told is not made again when the very same order comes once more, for the answer was lost; a further order, and one after a failure, begin anew.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	o := mysqlha.Order{Tag: tag, Epoch: 1, Fence: 1, Seq: 7}
	later, unnumbered := o, o
	later.Seq, unnumbered.Seq = 8, 0
	joins := func(what string, r *cloneRun, o mysqlha.Order, from string, want bool) {
		t.Helper()
		if got := r.joins(o, from); got != want {
			t.Errorf("%s: it joins: %t", what, got)
		}
	}
	r := &cloneRun{from: "db1", order: o, done: closing()}
	joins("while it goes on", r, later, "db1", true)
	joins("of another", r, o, "db2", false)
	close(r.done)
	r.ended = time.Now()
	joins("nobody was told", r, later, "db1", true)
	r.told.Store(true)
	joins("the same order", r, o, "db1", true)
	joins("a later order", r, later, "db1", false)
	r.err = ErrBusy
	joins("after a failure", r, o, "db1", false)
	r.err, r.order = nil, unnumbered
	joins("an order without a number", r, unnumbered, "db1", false)
	r.order, r.ended = o, time.Now().Add(-2*resultKept)
	joins("long ago", r, o, "db1", false)
}
