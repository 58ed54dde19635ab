package local

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadb"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

const clientsOf = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_CLIENTS'"

// threads are those of the server of a box.
func (b *box) threads() map[int]bool {
	b.w.t.Helper()
	pid, err := find(*b.server.Accounts.Server, true)
	mustDo(b.w.t, err)
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	mustDo(b.w.t, err)
	out := map[int]bool{}
	for _, e := range list {
		id, err := strconv.Atoi(e.Name())
		mustDo(b.w.t, err)
		out[id] = true
	}
	return out
}

// mute has a primary with replicas let them in and send them nothing: they come and go while the thread of it that takes acknowledgements stands, as on a host that has no time for it. In the end the
// replicas are connected. It is read-only meanwhile, and has no clients.
func (c *cluster) mute(p *box, replicas []*box) {
	c.t.Helper()
	runtime.LockOSThread() // who traces a thread is a thread
	defer runtime.UnlockOSThread()
	for limit := time.Now().Add(2 * mariadbtest.Patience); !c.muted(p, replicas); {
		if time.Now().After(limit) {
			c.t.Fatalf("what %s has new threads for is something else each time", p.name())
		}
	}
	for _, r := range replicas {
		r.server.Exec("START SLAVE IO_THREAD")
	}
	p.server.Await(strconv.Itoa(len(replicas)), "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND='Binlog Dump' AND STATE='starting'")
}

// muted has replicas come and go while the thread stands that is new when semi-sync is switched on. It reports whether that was the one: a connection has a thread as well.
func (c *cluster) muted(p *box, replicas []*box) bool {
	t := c.t
	t.Helper()
	all := func(statements ...string) {
		for _, r := range replicas {
			r.server.Exec(statements...)
		}
	}
	all("STOP SLAVE IO_THREAD", "SET GLOBAL rpl_semi_sync_slave_enabled=1")
	p.server.Await("0", clientsOf)
	p.server.Exec("SET GLOBAL rpl_semi_sync_master_enabled=0")
	before := p.threads()
	p.server.Exec("SET GLOBAL rpl_semi_sync_master_enabled=1")
	fresh := p.threads()
	maps.DeleteFunc(fresh, func(id int, _ bool) bool { return before[id] })
	list := slices.Collect(maps.Keys(fresh))
	if len(list) != 1 || unix.PtraceSeize(list[0]) != nil { // or it has ended
		return false
	}
	mustDo(t, unix.PtraceInterrupt(list[0]))
	_, err := unix.Wait4(list[0], nil, unix.WALL, nil)
	mustDo(t, err)
	goesOn := sync.OnceValue(func() error { return unix.PtraceDetach(list[0]) })
	defer func() { _ = goesOn() }() // a server with a thread that stands does not end
	all("START SLAVE IO_THREAD")
	came := p.counts(len(replicas))
	all("STOP SLAVE IO_THREAD")
	went := p.counts(0)
	mustDo(t, goesOn())
	if !came || !went { // it was another thread, which they need
		return false
	}
	// What they have left behind ends within a second, or never.
	for range 30 {
		if p.server.Text("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE='Waiting to finalize termination'") == "0" {
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
	return true
}

// counts waits until a primary counts so many replicas as connected that acknowledge, and reports whether it came to that.
func (b *box) counts(n int) bool {
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(b.w.t.Context(), 2*time.Second)
		has := -1
		err := b.server.Root().QueryRowContext(ctx, clientsOf).Scan(&has)
		cancel()
		if err == nil && has == n {
			return true
		}
	}
	return false
}

// TestMute: a primary that lets replicas in and sends them nothing is freed while it takes no writes, and replaced by itself when writes wait.
func TestMute(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	c := newCluster(t, 3)
	_, end := c.hold()
	stop := c.write()
	c.whole("two new members")
	stop()
	end()
	c.mu.Lock()
	c.holder++ // so that nobody who was asked a moment ago goes on
	fence := c.holder
	c.mu.Unlock()
	p := c.boxes[c.index(c.rec().Primary)]
	var replicas []*box
	for _, b := range c.boxes[1:] {
		if b != p {
			replicas = append(replicas, b)
		}
	}
	p.server.Exec("SET GLOBAL read_only=1")
	c.mute(p, replicas)

	e := effects{c, map[string]mysqlha.Server{}}
	for _, m := range c.members() {
		s, err := mariadb.Open(mariadb.DefaultConfig(m.Addr, m.Port, c.boxes[c.index(m.Host)].server.Accounts))
		mustDo(t, err)
		defer s.Close()
		e.servers[m.Host] = s
	}
	r := mysqlha.NewRunner(mysqlha.RunnerConfig{Tag: tag, World: e, Records: recordsAt{c, 0, fence}, Fence: fence, Valid: func() bool { return true }, Logger: c.log})
	rec, err := r.Load(t.Context())
	mustDo(t, err)
	cc := mysqlha.Cluster{Tag: tag, MySQL: c.scene().MySQL, Members: c.members(), HasRecord: true, Record: rec}
	awaken := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), mariadbtest.Patience)
		defer cancel()
		return r.Do(ctx, &cc, &mysqlha.Observations{}, mysqlha.Action{Act: mysqlha.ActAwaken, Host: p.name()}, "")
	}
	mustDo(t, awaken())
	p.server.Await("2", clientsOf)

	c.mute(p, replicas)
	p.server.Exec("SET GLOBAL read_only=0")
	stop = c.write()
	defer stop()
	p.server.Await("1", "SELECT VARIABLE_VALUE > 0 FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS'")
	if err := awaken(); err == nil || p.server.Text("SELECT @@rpl_semi_sync_master_enabled") != "1" {
		t.Fatalf("semi-sync was switched off while writes wait: %v", err)
	}
	_, end = c.hold()
	defer end()
	c.settles("another is promoted", func() bool { return c.rec().Primary != p.name() })
	c.whole("writes waited for nobody")
}
