package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hostmesh/mesh/report"
)

// reportWorld is nodes that have nothing but their reports, and what is between them.
type reportWorld struct {
	mu           sync.Mutex // guards the fields below
	rng          *rand.Rand
	nodes        []*reportNode
	cut          map[[2]int]bool
	loss         float64
	old          map[int]bool // these know no reports
	calls, bytes int
	wrong        error // the first broken promise
}

type reportNode struct {
	w     *reportWorld
	i     int
	sync  *reportSync // nil: it is down
	end   func()
	state State // what the others think
	disk  uint64
	skew  time.Duration
}

type skewed struct{ by time.Duration }

func (c skewed) Now() time.Time                         { return time.Now().Add(c.by) }
func (c skewed) After(d time.Duration) <-chan time.Time { return time.After(d) }

func reportNodeID(i int) string { return fmt.Sprintf("%032x", i+1) }

func newReportWorld(n int, seed uint64) *reportWorld {
	w := &reportWorld{rng: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]int]bool{}, old: map[int]bool{}}
	for i := range n {
		w.nodes = append(w.nodes, &reportNode{w: w, i: i, state: StateAlive})
	}
	for _, x := range w.nodes {
		x.start()
	}
	w.tellStates()
	return w
}

// start runs a node, with nothing but the boot number on its disk.
func (x *reportNode) start() {
	clock := skewed{x.skew}
	log := slog.New(slog.DiscardHandler)
	b := newBoard(Member{ID: reportNodeID(x.i), Name: fmt.Sprint("n", x.i), State: StateAlive}, log, clock.Now)
	boot := bootAt(clock.Now(), x.disk)
	x.disk = boot
	s := newReportSync(b, reportNodeID(x.i), boot, log, clock)
	s.boots = func(boot uint64) { x.disk = boot }
	s.call = func(ctx context.Context, node string, req []byte) ([]byte, error) {
		return x.w.carry(ctx, x.i, node, req)
	}
	x.w.mu.Lock()
	x.sync = s
	x.w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	changed, stop := b.watch(true)
	wg.Go(func() { x.guard(ctx, b, changed) })
	x.end = func() {
		cancel()
		wg.Wait()
		stop()
	}
	x.w.mu.Lock()
	x.state = StateAlive
	x.w.mu.Unlock()
}

// guard sees that no report is ever followed by an older one.
func (x *reportNode) guard(ctx context.Context, b *board, changed <-chan struct{}) {
	seen := map[string]stamp{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		for r := range (View{b.view.Load()}).Reports() {
			now := stamp{r.Boot, r.N}
			if seen[r.Node].newer(now) {
				x.w.mu.Lock()
				x.w.wrong = fmt.Errorf("at node %d: report %v of %s after %v", x.i, now, r.Node, seen[r.Node])
				x.w.mu.Unlock()
			}
			seen[r.Node] = now
		}
	}
}

func (x *reportNode) stop(state State) {
	x.end()
	x.w.mu.Lock()
	x.sync, x.state = nil, state
	x.w.mu.Unlock()
	x.w.tellStates()
}

// tellStates tells all that run what all are.
func (w *reportWorld) tellStates() {
	w.mu.Lock()
	var up []*reportSync
	states := map[string]State{}
	for _, x := range w.nodes {
		states[reportNodeID(x.i)] = x.state
		if x.sync != nil {
			up = append(up, x.sync)
		}
	}
	w.mu.Unlock()
	for _, s := range up {
		s.board.change(func(members map[string]Member) bool {
			changed := false
			for id, state := range states {
				if id != s.self && members[id].State != state {
					members[id], changed = Member{ID: id, Name: id, State: state}, true
				}
			}
			return changed
		})
	}
}

// carry takes a message to its receiver.
func (w *reportWorld) carry(ctx context.Context, from int, node string, req []byte) ([]byte, error) {
	var to int
	fmt.Sscanf(node, "%x", &to)
	to--
	lost := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.cut[[2]int{from, to}] || w.rng.Float64() < w.loss
	}
	w.mu.Lock()
	w.calls++
	w.bytes += len(req)
	s, old := w.nodes[to].sync, w.old[to]
	w.mu.Unlock()
	time.Sleep(time.Millisecond)
	if old {
		return nil, &RemoteError{Node: node, Name: callReports, Code: codeNoHandler}
	}
	if s == nil {
		return nil, ErrUnreachable
	}
	if lost() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b, err := s.handle(ctx, Caller{ID: reportNodeID(from)}, req)
	if err != nil {
		return nil, &RemoteError{Node: node, Name: callReports, Code: codeError, Text: err.Error()}
	}
	time.Sleep(time.Millisecond)
	if lost() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w.mu.Lock()
	w.bytes += len(b)
	w.mu.Unlock()
	return b, nil
}

func (w *reportWorld) close() {
	for _, x := range w.nodes {
		if x.sync != nil {
			x.end()
		}
	}
}

// equal says what is not as it should be: all that run have the same, of each that runs what it says itself, and of one that
// left nothing.
func (w *reportWorld) equal() error {
	var first *reportSync
	for _, x := range w.nodes {
		if x.sync == nil || w.old[x.i] {
			continue
		}
		if first == nil {
			first = x.sync
		}
		v := View{x.sync.board.view.Load()}
		for _, y := range w.nodes {
			r, ok := v.Report(reportNodeID(y.i))
			switch {
			case y.state == StateLeft && ok:
				return fmt.Errorf("node %d keeps a report of %d, which left", x.i, y.i)
			case y.sync != nil && !w.old[y.i]:
				own, said := View{y.sync.board.view.Load()}.Report(reportNodeID(y.i))
				if said != ok || !report.Equal(own, r) || own.Boot != r.Boot || own.N != r.N {
					return fmt.Errorf("node %d has of %d: %v %+v; that says %v %+v", x.i, y.i, ok, r, said, own)
				}
			default:
				a, has := View{first.board.view.Load()}.Report(reportNodeID(y.i))
				if has != ok || !report.Equal(a, r) || a.Boot != r.Boot || a.N != r.N {
					return fmt.Errorf("nodes %s and %d differ about %d: %+v and %+v", first.self, x.i, y.i, a, r)
				}
			}
		}
		if a, b := first.board.reports.sum, x.sync.board.reports.sum; a != b {
			return fmt.Errorf("sums of equal reports differ: %x and %x", a, b)
		}
		if size := x.sync.board.reports.check(); size != nil {
			return fmt.Errorf("node %d: %w", x.i, size)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}

// check compares what is counted along with what is there.
func (s *reportStore) check() error {
	var sum uint64
	for id, h := range s.held {
		if h.rep == nil {
			continue
		}
		size, content := 0, uint64(0)
		for k, e := range h.entries {
			size += len(k) + len(e.raw)
			content += entrySum(k, e.raw)
		}
		if size != h.size || content != h.content {
			return fmt.Errorf("report of %s: %d bytes counted, %d there; sum %x and %x", id, h.size, size, h.content, content)
		}
		sum += stampSum(id, h.at, content)
		if i, ok := findReport(s.list, id); !ok || s.list[i] != h.rep {
			return fmt.Errorf("report of %s is not in the list", id)
		}
	}
	if sum != s.sum {
		return fmt.Errorf("sum %x, should be %x", s.sum, sum)
	}
	return nil
}

type reportStep struct {
	What        string
	Node, Other int
	Key, Value  int
	Wait        time.Duration
}

// TestReportsAgreeInTheEnd: whatever happens to the nodes and what is between them, their reports are the same once all is
// well again, and no node ever takes an older report for a newer. More of it: -rapid.checks=10000.
func TestReportsAgreeInTheEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 7).Draw(rt, "nodes")
		room := rapid.SampledFrom([]int{100, 1 << 20}).Draw(rt, "bytes")
		loss := rapid.SampledFrom([]float64{0, 0.3}).Draw(rt, "loss")
		seed := rapid.Uint64().Draw(rt, "seed")
		old := rapid.Bool().Draw(rt, "one of an older build")
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) reportStep {
			return reportStep{
				What: rapid.SampledFrom([]string{
					"machine", "machine", "machine", "machine", "machine", "box", "lose", "empty", "cut", "heal",
					"restart", "kill", "leave", "start", "restored", "clock fell", "wait",
				}).Draw(rt, "what"),
				Node: rapid.IntRange(0, 6).Draw(rt, "node"), Other: rapid.IntRange(0, 6).Draw(rt, "other"),
				Key: rapid.IntRange(0, 3).Draw(rt, "key"), Value: rapid.IntRange(0, 5).Draw(rt, "value"),
				Wait: time.Duration(rapid.IntRange(0, 8000).Draw(rt, "ms")) * time.Millisecond,
			}
		}), 1, 40).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(t *testing.T) { err = playReports(n, room, loss, seed, old, steps) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func playReports(n, room int, loss float64, seed uint64, old bool, steps []reportStep) error {
	w := newReportWorld(n, seed)
	defer w.close()
	w.loss = loss
	if old {
		w.old[n-1] = true
	}
	for _, s := range steps {
		x := w.nodes[s.Node%n]
		if x.sync != nil {
			x.sync.bytes = room
		}
		again := func() {
			if x.sync != nil {
				x.stop(StateFailed)
			}
			x.start()
			w.tellStates()
		}
		switch s.What {
		case "machine", "box", "lose", "empty":
			if x.sync == nil {
				continue
			}
			x.sync.edit(func(r *report.Report) {
				switch s.What {
				case "machine":
					r.VMs[fmt.Sprint("vm", s.Key)] = report.VM{Name: "a", Phase: report.Running, Since: int64(s.Value)}
				case "lose":
					delete(r.VMs, fmt.Sprint("vm", s.Key))
				case "box":
					r.Box = &report.Box{CPUs: s.Value, Images: map[string]string{"debian": fmt.Sprint(s.Key)}}
				default:
					*r = report.Report{}
				}
			})
		case "cut":
			w.mu.Lock()
			w.cut[[2]int{x.i, s.Other % n}], w.cut[[2]int{s.Other % n, x.i}] = true, s.Value > 0
			w.mu.Unlock()
		case "heal":
			w.mu.Lock()
			clear(w.cut)
			w.mu.Unlock()
		case "restart":
			again()
		case "restored": // as of before the last start
			x.disk = max(x.disk, 2) - 2
			again()
		case "clock fell": // a year, to the same second each time
			x.skew = time.Until(time.Unix(0, 0))
			x.disk = 0
			again()
		case "kill":
			if x.sync != nil {
				x.stop(StateFailed)
			}
		case "leave":
			if x.sync != nil {
				x.stop(StateLeft)
			}
		case "start":
			if x.sync == nil {
				x.start()
				w.tellStates()
			}
		case "wait":
			time.Sleep(s.Wait)
		}
	}
	w.mu.Lock()
	clear(w.cut)
	w.loss = 0
	w.mu.Unlock()
	time.Sleep(5 * time.Minute)
	return w.equal()
}

// TestReportCost: a change costs at most as many messages as each node tells members, in a mesh of 200; a hundred changes of
// one node in a second, no more than its bound; and at rest two nodes that compare say next to nothing.
func TestReportCost(t *testing.T) {
	const n = 200
	synctest.Test(t, func(t *testing.T) {
		w := newReportWorld(n, 1)
		defer w.close()
		time.Sleep(time.Minute)
		count := func(f func()) (calls, bytes int) {
			w.mu.Lock()
			was, wasBytes := w.calls, w.bytes
			w.mu.Unlock()
			f()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.calls - was, w.bytes - wasBytes
		}
		for i, x := range w.nodes {
			x.sync.edit(func(r *report.Report) {
				r.Box = &report.Box{CPUs: i}
				for k := range 3 {
					r.VMs[fmt.Sprint("vm", k)] = report.VM{Name: "web", Phase: report.Running}
				}
			})
		}
		time.Sleep(time.Minute)
		if err := w.equal(); err != nil {
			t.Fatal(err)
		}
		const rest = time.Minute
		calls, bytes := count(func() { time.Sleep(rest) })
		// A fifth more often than reportCompare at most, and no message has more than 40 bytes.
		if most := n * int(rest/(reportCompare*4/5)); calls > most || bytes > 40*calls {
			t.Errorf("at rest: %d calls, %d bytes; at most %d and %d are expected", calls, bytes, most, 40*calls)
		}
		t.Logf("at rest: %.2f calls and %.1f bytes a second of each node", float64(calls)/n/rest.Seconds(), float64(bytes)/n/rest.Seconds())

		said := func(value int64) {
			w.nodes[7].sync.edit(func(r *report.Report) { r.VMs["vm3"] = report.VM{Name: "web", Phase: report.Failed, Since: value} })
		}
		// Compared too in that time: a fifth of a second's worth, and what those exchange who compare in the middle of it.
		calls, bytes = count(func() {
			said(1)
			time.Sleep(200 * time.Millisecond)
		})
		if err := w.equal(); err != nil {
			t.Errorf("200 ms after a change: %v", err)
		}
		if most := reportFanout*n + n/5; calls > most || bytes > 300*most {
			t.Errorf("one change: %d calls, %d bytes; at most %d calls are expected", calls, bytes, most)
		}
		t.Logf("one change: %.2f calls and %d bytes for each node", float64(calls)/n, bytes/n)

		calls, _ = count(func() {
			for i := range 100 {
				said(int64(i + 2))
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond)
		})
		if err := w.equal(); err != nil {
			t.Errorf("after a hundred changes: %v", err)
		}
		if most := n * reportFanout * int(1200*time.Millisecond/reportGap); calls > most {
			t.Errorf("a hundred changes in a second: %d calls, at most %d are expected", calls, most)
		}
		t.Logf("a hundred changes in a second: %.2f calls for each node and change", float64(calls)/n/100)
	})
}

// TestTellOrder: who is told by whom weaves all into one, and in a small mesh everybody tells everybody.
func TestTellOrder(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 64, 1000} {
		var ids []string
		for i := range n {
			ids = append(ids, reportNodeID(i))
		}
		told := map[string][]string{}
		for _, id := range ids {
			others := slices.DeleteFunc(slices.Clone(ids), func(x string) bool { return x == id })
			order := tellOrder(id, others)
			if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, others) {
				t.Fatalf("%d nodes: %d are in the order of one", n, len(got))
			}
			told[id] = order[:min(reportFanout, len(order))]
		}
		reached, edge, hops := map[string]bool{ids[0]: true}, []string{ids[0]}, 0
		for len(edge) > 0 {
			var next []string
			for _, id := range edge {
				for _, to := range told[id] {
					if !reached[to] {
						reached[to] = true
						next = append(next, to)
					}
				}
			}
			if edge = next; len(edge) > 0 {
				hops++
			}
		}
		if len(reached) != n || hops > 9 {
			t.Errorf("%d nodes: news reach %d in %d hops", n, len(reached), hops)
		}
	}
}
