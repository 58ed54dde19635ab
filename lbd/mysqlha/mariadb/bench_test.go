package mariadb_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// BenchmarkObserve tells what one observation costs the server (server-µs/op) and us (client-µs/op), in time of a CPU. Clients are counted each second, so
// that this depends a little on how often it is asked.
func BenchmarkObserve(b *testing.B) {
	for _, what := range []string{"primary", "replica"} {
		b.Run(what, func(b *testing.B) {
			p := newMember(b, mariadbtest.Start(b, mariadbtest.Options{}))
			m := p
			if what == "replica" {
				m = newMember(b, mariadbtest.Start(b, mariadbtest.Options{ID: 2}))
				must(b, m.server.Follow(ctx(b), p.Source(), false))
			}
			facts(b, m)
			server, client := cpuOf(b, m.real.PID()), ownCPU(b)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				facts(b, m)
				n++
			}
			b.ReportMetric(float64((cpuOf(b, m.real.PID())-server).Microseconds())/float64(n), "server-µs/op")
			b.ReportMetric(float64((ownCPU(b)-client).Microseconds())/float64(n), "client-µs/op")
		})
	}
}

// cpuOf is what all threads of a process have had of a CPU that live now.
func cpuOf(b *testing.B, pid int) (sum time.Duration) {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(b, err)
	for _, thread := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, thread.Name()))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended
		}
		must(b, err)
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFailover is what a failover takes by plain calls, with nobody to decide: from SIGKILL of the primary to the first row that a client has
// written to the next. It says where the time goes; three servers, one writer, semi-sync.
func BenchmarkFailover(b *testing.B) {
	var all []*member
	for i := range 3 {
		all = append(all, newMember(b, mariadbtest.Start(b, mariadbtest.Options{ID: uint32(i + 1)})))
	}
	row := 0
	insert := func(m *member) {
		row++
		must(b, m.Insert(ctx(b), row))
	}
	must(b, all[0].server.SetReadOnly(ctx(b), false))
	for _, r := range all[1:] {
		must(b, r.server.SetAcker(ctx(b), true))
		must(b, r.server.Follow(ctx(b), all[0].Source(), false))
	}
	must(b, all[0].server.SetSource(ctx(b), true))
	until(b, all[0], "all acknowledge", func(f mysqlha.Facts) bool { return f.Semi.Clients == 2 })
	steps := map[string][]time.Duration{}
	for b.Loop() {
		for range 20 {
			insert(all[0])
		}
		old, next, other := all[0], all[1], all[2]
		at := time.Now()
		began := at
		step := func(name string) { steps[name] = append(steps[name], time.Since(at)); at = time.Now() }
		old.Kill()
		step("kill")
		done := make(chan error, 2)
		for _, r := range all[1:] {
			go func() { done <- errors.Join(r.server.StopIO(ctx(b)), r.server.StartSQL(ctx(b))) }()
		}
		must(b, errors.Join(<-done, <-done))
		step("stop")
		position := facts(b, next).Received
		must(b, next.server.WaitApplied(ctx(b), position))
		step("apply")
		must(b, next.server.Leave(ctx(b)))
		must(b, next.server.SetAcker(ctx(b), false))
		must(b, next.server.SetSource(ctx(b), true))
		step("promote")
		must(b, other.server.Follow(ctx(b), next.Source(), false))
		step("repoint")
		until(b, next, "one acknowledges", func(f mysqlha.Facts) bool { return f.Semi.Clients >= 1 })
		step("acked")
		must(b, next.server.SetReadOnly(ctx(b), false))
		insert(next)
		step("open+write")
		steps["all"] = append(steps["all"], time.Since(began))
		old.Restart(mysqlha.AsReplica)
		must(b, old.server.SetAcker(ctx(b), true))
		must(b, old.server.Follow(ctx(b), next.Source(), true))
		until(b, next, "all acknowledge", func(f mysqlha.Facts) bool { return f.Semi.Clients == 2 })
		all = []*member{next, other, old}
	}
	for _, m := range all[1:] {
		must(b, m.server.WaitApplied(ctx(b), facts(b, all[0]).Current))
	}
	for _, m := range all {
		rows, err := m.Rows(ctx(b))
		must(b, err)
		if len(rows) != row {
			b.Errorf("%s has %d rows of %d that were acknowledged", m.real.Name, len(rows), row)
		}
	}
	var text []string
	for name, list := range steps {
		slices.Sort(list)
		text = append(text, fmt.Sprintf("%s %.1f [%.1f-%.1f]", name, list[len(list)/2].Seconds()*1e3, list[0].Seconds()*1e3, list[len(list)-1].Seconds()*1e3))
	}
	slices.Sort(text)
	b.Logf("ms of %d, median [least-most]: %s", len(steps["all"]), strings.Join(text, "; "))
}
