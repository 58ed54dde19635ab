package integration

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/lbd/mysqlha/mariadbtest"
)

// glance is what a server says of itself, at a time between two moments.
type glance struct {
	asked, answered time.Time
	writable, waits bool   // read_only is off; it waits for acknowledgements
	source          string // whom it receives from and acknowledges to; "" = nobody
}

func (g glance) same(o glance) bool {
	return g.writable == o.writable && g.waits == o.waits && g.source == o.source
}

// stormWatch looks all the time for what must never be: two servers that take writes and can acknowledge, two boxes that answer for the address for longer than
// an address lives.
type stormWatch struct {
	x    *storm
	stop atomic.Bool
	wg   sync.WaitGroup

	mu    sync.Mutex // guards seen
	seen  map[string][]glance
	until time.Time // judged until then; of one goroutine
	told  map[string]time.Time
}

const (
	glanceEvery = 100 * time.Millisecond
	glancesKept = 60
)

func newStormWatch(x *storm) *stormWatch {
	w := &stormWatch{x: x, seen: map[string][]glance{}, told: map[string]time.Time{}, until: time.Now()}
	for host, db := range x.dbs {
		w.wg.Go(func() {
			for ; !w.stop.Load(); time.Sleep(glanceEvery) {
				if pid := x.pid(host); pid == 0 || processState(pid) == "T" {
					continue
				}
				g, err := glanceAt(db)
				if err != nil {
					continue // it starts, or ends
				}
				w.mu.Lock()
				list := append(w.seen[host], g)
				w.seen[host] = list[max(0, len(list)-glancesKept):]
				w.mu.Unlock()
			}
		})
	}
	w.wg.Go(func() {
		for ; !w.stop.Load(); time.Sleep(500 * time.Millisecond) {
			w.judge()
		}
	})
	x.t.Cleanup(w.end)
	return w
}

func (w *stormWatch) end() {
	w.stop.Store(true)
	w.wg.Wait()
}

// processState is the letter that the kernel has for a process, such as T for one that was stopped.
func processState(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[:min(1, len(rest))]
}

func glanceAt(db *mariadbtest.Server) (glance, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	g := glance{asked: time.Now()}
	conn, err := db.Root().Conn(ctx)
	if err != nil {
		return g, err
	}
	defer conn.Close()
	var readOnly, acker bool
	if err := conn.QueryRowContext(ctx, "SELECT @@read_only, @@rpl_semi_sync_master_enabled, @@rpl_semi_sync_slave_enabled").Scan(&readOnly, &g.waits, &acker); err != nil {
		return g, err
	}
	g.writable = !readOnly
	rows, err := conn.QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		return g, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return g, err
	}
	if rows.Next() {
		texts := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range texts {
			into[i] = &texts[i]
		}
		if err := rows.Scan(into...); err != nil {
			return g, err
		}
		field := func(name string) string { return texts[slices.Index(names, name)].String }
		if acker && field("Slave_IO_Running") == "Yes" {
			g.source = field("Master_Host")
		}
	}
	err = rows.Err()
	g.answered = time.Now()
	return g, err
}

// judge looks at the last moments, so long ago that all have answered.
func (w *stormWatch) judge() {
	w.mu.Lock()
	seen := map[string][]glance{}
	for host, list := range w.seen {
		seen[host] = slices.Clone(list)
	}
	w.mu.Unlock()
	end := time.Now().Add(-1500 * time.Millisecond)
	for ; w.until.Before(end); w.until = w.until.Add(25 * time.Millisecond) {
		at := map[string]glance{}
		for host, list := range seen {
			if g, ok := between(list, w.until); ok {
				at[host] = g
			}
		}
		var can []string
		for host, g := range at {
			if !g.writable {
				continue
			}
			by := []string{}
			for other, o := range at {
				if o.source == w.x.dbs[host].Addr {
					by = append(by, other)
				}
			}
			slices.Sort(by)
			if !g.waits {
				w.defect("alone", "%s takes writes and waits for no acknowledgement", host)
			}
			if len(by) > 0 || !g.waits {
				can = append(can, fmt.Sprintf("%s (acknowledged by %s)", host, strings.Join(by, " ")))
			}
		}
		if slices.Sort(can); len(can) > 1 {
			w.defect("two", "two servers take writes that are acknowledged: %s", strings.Join(can, ", "))
		}
	}
	e := w.x.ears[0]
	now := time.Now()
	e.mu.Lock()
	if i := slices.IndexFunc(e.heard, func(a saying) bool { return a.at.After(now.Add(-time.Minute)) }); i > 0 {
		e.heard = slices.Clone(e.heard[i:])
	}
	e.mu.Unlock()
	from := now.Add(-15 * time.Second)
	if list := spans(e.since(from, writeVIP)); overlap(list) > life {
		w.defect("address", "two boxes answered for %s for %s: %s", writeVIP, overlap(list).Round(time.Millisecond), w.x.story(from, [][]saying{e.since(from, writeVIP)}))
	}
}

// defect tells a thing once for as long as it lasts.
func (w *stormWatch) defect(what, format string, args ...any) {
	now := time.Now()
	if now.Sub(w.told[what]) > 15*time.Second {
		w.x.defect(format, args...)
	}
	w.told[what] = now
}

// between is what a server was at a moment: what it said before it and after it, if that is the same.
func between(list []glance, at time.Time) (glance, bool) {
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		if a.answered.Before(at) && at.Before(b.asked) {
			return a, a.same(b) && b.asked.Sub(a.answered) < time.Second
		}
	}
	return glance{}, false
}

// taken is what an agent takes, at a moment.
type taken struct {
	at                    time.Duration
	start                 int // which of its starts it is
	memory                int64
	goroutines, openFiles int64
}

// takes measures an agent; ok is false while it does not answer.
func (x *storm) takes(b *box) (out taken, ok bool) {
	pid := b.cmd.Process.Pid
	status, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	files, err2 := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if errors.Join(err1, err2) != nil {
		return out, false
	}
	out = taken{at: time.Since(x.begun), start: x.starts[b], openFiles: int64(len(files))}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes numbers
			out.memory = kb << 10
		}
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.socket())
	}}
	c := http.Client{Transport: tr, Timeout: time.Second}
	resp, err := c.Get("http://agent/metrics")
	if err != nil {
		return out, false
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			out.goroutines, _ = strconv.ParseInt(rest, 10, 64)
			_, _ = io.Copy(io.Discard, resp.Body)
			break
		}
	}
	return out, out.memory > 0 && out.goroutines > 0
}

// Growth that is no leak, of the median of the last quarter over that of the first, in a run that is long enough.
const (
	growthJudged = 20 * time.Minute
	spareMemory  = 48 << 20
	spareOthers  = 30
	maxGrowth    = 1.3
	warmUp       = 20 * time.Second // of each start, which is not looked at
)

// growth prints what the agents took, and judges it.
func (x *storm) growth(length time.Duration) {
	for _, b := range x.boxes {
		begun := map[int]time.Duration{}
		var first, last []taken
		for _, m := range x.measured[b] {
			if _, ok := begun[m.start]; !ok {
				begun[m.start] = m.at
			}
			switch {
			case m.at-begun[m.start] < warmUp && length >= growthJudged:
			case m.at < length/4:
				first = append(first, m)
			case m.at > length*3/4:
				last = append(last, m)
			}
		}
		if len(first) == 0 || len(last) == 0 {
			x.say("%s: %d starts, measured too rarely", b.name, x.starts[b])
			continue
		}
		mid := func(list []taken, of func(taken) int64) int64 {
			values := make([]int64, len(list))
			for i, m := range list {
				values[i] = of(m)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		memory, goroutines, files := func(m taken) int64 { return m.memory }, func(m taken) int64 { return m.goroutines }, func(m taken) int64 { return m.openFiles }
		m1, m2, g1, g2, f1, f2 := mid(first, memory), mid(last, memory), mid(first, goroutines), mid(last, goroutines), mid(first, files), mid(last, files)
		peak := slices.MaxFunc(x.measured[b], func(a, b taken) int { return cmp.Compare(a.memory, b.memory) }).memory
		x.say("%s: %d starts; first quarter to last: memory %.1f to %.1f MiB (peak %.1f), goroutines %d to %d, open files %d to %d",
			b.name, x.starts[b], float64(m1)/(1<<20), float64(m2)/(1<<20), float64(peak)/(1<<20), g1, g2, f1, f2)
		if length < growthJudged {
			continue
		}
		if m2 > m1+spareMemory || float64(g2) > float64(g1)*maxGrowth+spareOthers || float64(f2) > float64(f1)*maxGrowth+spareOthers {
			x.defect("what %s takes grows", b.name)
		}
	}
}
