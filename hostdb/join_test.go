package hostdb_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

func digestsOf(v hostdb.View) map[string]string {
	out := map[string]string{}
	for _, ns := range v.Namespaces() {
		out[ns] = v.Digest(ns)
	}
	return out
}

// join brings the whole state of one box to an empty one, a piece at a time; between calls before each step.
func join(t failer, from hostdb.View, to *box, pieceBytes int, between func()) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("join %s: %v", to.name, err)
		}
		if between != nil {
			between()
		}
	}
	must(to.store.BeginJoin(ctx, from.Version().String(), from.EncodeHeads()))
	joinOn(t, from, to, pieceBytes, must)
}

// joinOn goes on where a join stands.
func joinOn(t failer, from hostdb.View, to *box, pieceBytes int, must func(error)) {
	t.Helper()
	ctx := context.Background()
	j, ok := to.store.Joining()
	if !ok || j.Version != from.Version().String() {
		t.Fatalf("the join that was begun is not there: %+v %t", j, ok)
	}
	for after, more := j.After, true; more; {
		piece, last := from.Piece(after, pieceBytes)
		must(to.store.AddPiece(ctx, piece, after, last))
		after, more = last, last != ""
	}
	must(to.store.FinishJoin(ctx, digestsOf(from)))
}

// fill brings the history that a joined box lacks.
func fill(t failer, from, to *box, bytes int, between func()) {
	t.Helper()
	for n := 0; ; n++ {
		holes := to.store.Holes()
		if len(holes) == 0 {
			return
		}
		h := holes[n%len(holes)]
		ops, _, gone, err := from.store.OperationsUntil(h.Origin, h.Until, bytes)
		if err != nil {
			t.Fatalf("operations of %x until %d: %v", h.Origin, h.Until, err)
		}
		if err := to.store.Fill(context.Background(), h, ops, gone); err != nil {
			t.Fatalf("fill: %v", err)
		}
		if between != nil {
			between()
		}
	}
}

// busyBox is a box with a bit of everything in several runs.
func busyBox(t failer) *box {
	b := openBox(t, "a")
	for i := range 12 {
		if i%5 == 4 {
			b.restart(t)
		}
		name := fmt.Sprintf("web%d", i)
		write := func(fn func(tx *hostdb.Tx) error) {
			b.clock.now = b.clock.now.Add(time.Second)
			if _, err := b.update(t, fn); err != nil {
				t.Fatalf("write: %v", err)
			}
		}
		write(put("hosts", name, hostdb.NewDocument(
			hostdb.Leaf{Path: hostdb.PathOf("Network", "IP"), Value: hostdb.Text(fmt.Sprintf("10.0.0.%d", i+1))},
			hostdb.Leaf{Path: hostdb.PathOf("note"), Value: hostdb.Text(strings.Repeat("x", 40*i))})))
		tag := fmt.Sprintf("t%d", i%3)
		if i < 3 {
			write(put("tags", tag, hostdb.NewDocument(hostdb.Leaf{Path: hostdb.PathOf("n"), Value: hostdb.Text("1")})))
		}
		write(func(tx *hostdb.Tx) error { return tx.AddMember("tags", tag, name) })
		if i == 7 {
			write(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web2") })
			write(func(tx *hostdb.Tx) error { return tx.Rename("hosts", "web3", "app3") })
		}
	}
	return b
}

func TestJoin(t *testing.T) {
	a := busyBox(t)
	for _, size := range []int{1, 300, 1 << 20} {
		b := openBox(t, "b")
		b.clock.now = a.clock.now
		join(t, a.store.View(), b, size, nil)
		if got, want := picture(b.store.View()), picture(a.store.View()); got != want {
			t.Fatalf("pieces of %d bytes: joined to\n%s\nof\n%s", size, got, want)
		}
		checkIndexes(t, b.store.View())
		if _, _, err := b.store.Revisions(context.Background(), hostdb.RevisionQuery{}); !errors.Is(err, hostdb.ErrUnavailable) {
			t.Errorf("history that is not there is told as: %v", err)
		}
		// What is written meanwhile, at both, goes both ways.
		write(t, b, put("hosts", "new-here", parse(t, "{a: 1}")))
		write(t, a, put("hosts", "new-there", parse(t, "{a: 1}")))
		exchange(t, a, b)
		fill(t, a, b, size, nil)
		b.restart(t)
		if got, want := picture(b.store.View()), picture(a.store.View()); got != want {
			t.Fatalf("after a restart\n%s\nof\n%s", got, want)
		}
		as, bs := revisionsOf(t, a), revisionsOf(t, b)
		if len(as) != len(bs) {
			t.Fatalf("%d revisions, of %d", len(bs), len(as))
		}
		for i := range as {
			if as[i].ID != bs[i].ID || as[i].Log != bs[i].Log || as[i].Node != bs[i].Node {
				t.Fatalf("revision %d is %v, not %v", i, bs[i], as[i])
			}
			if i%4 == 0 && picture(at(t, a, as[i].ID)) != picture(at(t, b, as[i].ID)) {
				t.Fatalf("the state as of %s differs", as[i].ID)
			}
		}
		c := openBox(t, "c")
		c.clock.now = a.clock.now // and everything can be had from it as if it had been there from the beginning
		deliverAll(t, b, c)
		if picture(c.store.View()) != picture(a.store.View()) {
			t.Fatal("a third one sees another state")
		}
	}
}

// A join that is killed between any two commits goes on, or is begun anew, and ends as one that was not.
func TestJoinSurvivesACrashAtEveryCommit(t *testing.T) {
	a := busyBox(t)
	want := picture(a.store.View())
	b := openBox(t, "b")
	b.storage.SetMaxBatch(2000, 20)
	b.restart(t)
	var crashes []*hostdbtest.Memory
	snapshot := func([]hostdb.Put) error { crashes = append(crashes, b.storage.Snapshot()); return nil }
	b.storage.SetHooks(hostdbtest.Hooks{Before: snapshot, After: snapshot})
	join(t, a.store.View(), b, 900, nil)
	joined := len(crashes)
	fill(t, a, b, 400, nil)
	for i, m := range crashes {
		re := &box{storage: m, clock: b.clock, name: "b"}
		re.open(t)
		got := picture(re.store.View())
		if _, on := re.store.Joining(); on {
			if got != picture(hostdb.View{}) {
				t.Fatalf("crash %d: a state that is not complete shows\n%s", i, got)
			}
			if _, err := re.store.Update(context.Background(), hostdb.Request{}, put("hosts", "x", parse(t, "1"))); !errors.Is(err, hostdb.ErrUnavailable) {
				t.Fatalf("crash %d: a write into half a state: %v", i, err)
			}
			joinOn(t, a.store.View(), re, 900, func(err error) {
				if err != nil {
					t.Fatalf("crash %d: %v", i, err)
				}
			})
		} else if got == picture(hostdb.View{}) {
			if i >= joined {
				t.Fatalf("crash %d lost the state", i)
			}
			join(t, a.store.View(), re, 900, nil)
		}
		if picture(re.store.View()) != want {
			t.Fatalf("crash %d ended as\n%s\nnot\n%s", i, picture(re.store.View()), want)
		}
		fill(t, a, re, 400, nil)
		if len(revisionsOf(t, re)) != len(revisionsOf(t, a)) {
			t.Fatalf("crash %d: history is not whole", i)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	ctx := context.Background()
	a := busyBox(t)
	v := a.store.View()
	piece, last := v.Piece("", 1<<20)
	if last != "" {
		t.Fatal("expected one piece")
	}
	tests := []struct {
		name string
		do   func(b *box) error
		want error
	}{
		{"a replica that holds something", func(b *box) error {
			write(t, b, put("hosts", "x", parse(t, "1")))
			return b.store.BeginJoin(ctx, v.Version().String(), v.EncodeHeads())
		}, hostdb.ErrJoined},
		{"heads of another version", func(b *box) error { return b.store.BeginJoin(ctx, "17", v.EncodeHeads()) }, hostdb.ErrInvalid},
		{"heads cut short", func(b *box) error {
			h := v.EncodeHeads()
			return b.store.BeginJoin(ctx, v.Version().String(), h[:len(h)-3])
		}, hostdb.ErrInvalid},
		{"a piece before the beginning", func(b *box) error { return b.store.AddPiece(ctx, piece, "", "") }, hostdb.ErrInvalid},
		{"a piece out of order", func(b *box) error {
			return errors.Join(b.store.BeginJoin(ctx, v.Version().String(), v.EncodeHeads()), b.store.AddPiece(ctx, piece, "khosts\x00web1", ""))
		}, hostdb.ErrInvalid},
		{"half a piece", func(b *box) error {
			return errors.Join(b.store.BeginJoin(ctx, v.Version().String(), v.EncodeHeads()), b.store.AddPiece(ctx, piece[:len(piece)/2], "", ""))
		}, hostdb.ErrInvalid},
		{"a piece of rows that are none", func(b *box) error {
			return errors.Join(b.store.BeginJoin(ctx, v.Version().String(), v.EncodeHeads()), b.store.AddPiece(ctx, []byte("\x02mx\x01\x01"), "", ""))
		}, hostdb.ErrInvalid},
		{"a state that lacks a piece", func(b *box) error {
			return errors.Join(b.store.BeginJoin(ctx, v.Version().String(), v.EncodeHeads()), b.store.FinishJoin(ctx, digestsOf(v)))
		}, hostdb.ErrInvalid},
		{"operations that are not of the chain", func(b *box) error {
			join(t, v, b, 1<<20, nil)
			c := busyBox(t)
			h := b.store.Holes()[0]
			for origin, seq := range c.store.View().Vector() {
				ops, _, _, err := c.store.OperationsUntil(origin, seq, 1)
				if err != nil {
					return err
				}
				return b.store.Fill(ctx, h, ops, false)
			}
			return nil
		}, hostdb.ErrFork},
	}
	for _, test := range tests {
		b := openBox(t, "b")
		if err := test.do(b); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, expected %v", test.name, err, test.want)
		}
		if b.store.View().Exists("hosts", "web1") && test.want != hostdb.ErrFork {
			t.Errorf("%s: shows something of it", test.name)
		}
	}
}

// What is offered again and what nobody has any more closes holes without harm.
func TestFillTwiceAndGone(t *testing.T) {
	a := busyBox(t)
	b := openBox(t, "b")
	join(t, a.store.View(), b, 1<<20, nil)
	h := b.store.Holes()[0]
	ops, more, gone, err := a.store.OperationsUntil(h.Origin, h.Until, 300)
	if err != nil || !more || gone {
		t.Fatalf("%d operations, more %t, gone %t: %v", len(ops), more, gone, err)
	}
	for range 2 {
		if err := b.store.Fill(context.Background(), h, ops, false); err != nil {
			t.Fatal(err)
		}
	}
	before := b.store.Missing()
	if next := b.store.Holes()[0]; next.Origin != h.Origin || next.Until != h.Until-uint64(len(ops)) {
		t.Fatalf("filled %d from %v to %v", len(ops), h, next)
	}
	for _, h := range b.store.Holes() {
		if err := b.store.Fill(context.Background(), h, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	if left := b.store.Missing(); left != 0 || before == 0 {
		t.Fatalf("%d of %d are missing after nobody has them", left, before)
	}
	if _, err := b.store.Operations(h.Origin, 0, 1<<20); !errors.Is(err, hostdb.ErrGone) {
		t.Fatalf("operations that are gone: %v", err)
	}
	if _, _, gone, err := b.store.OperationsUntil(h.Origin, 1, 1<<20); !errors.Is(err, hostdb.ErrGone) || !gone {
		t.Fatalf("operations that are gone: %t %v", gone, err)
	}
}

// Random replicas, joined at random moments, are as those that took each operation.
func TestJoinIsTheFoldOfOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := openBox(t, "a")
		for range rapid.IntRange(1, 25).Draw(t, "writes") {
			if rapid.IntRange(0, 6).Draw(t, "restart") == 0 {
				a.restart(t)
			}
			_, _ = a.update(t, randomWrite(t))
		}
		v := a.store.View()
		if v.Version().String() == "0" {
			return
		}
		size := rapid.IntRange(1, 2000).Draw(t, "piece")
		b := openBox(t, "b")
		b.clock.now = a.clock.now
		join(t, v, b, size, nil)
		for range rapid.IntRange(0, 6).Draw(t, "more writes") {
			_, _ = a.update(t, randomWrite(t))
			_, _ = b.update(t, randomWrite(t))
		}
		deliverAll(t, a, b)
		deliverAll(t, b, a)
		fill(t, a, b, size, nil)
		for _, v := range []hostdb.View{b.store.View(), a.store.View()} {
			if picture(v) != picture(a.store.View()) || digests(v) != digests(a.store.View()) {
				t.Fatalf("joined to\n%s\nof\n%s", picture(v), picture(a.store.View()))
			}
		}
		right, err := b.store.Refold(context.Background())
		if err != nil || picture(right) != picture(a.store.View()) || digests(right) != digests(a.store.View()) {
			t.Fatalf("its log folds to another state: %v", err)
		}
	})
}

// A replica whose registers were damaged takes those that its log, or a healthy one, describes.
func TestRepair(t *testing.T) {
	ctx := context.Background()
	damage := func(b *box) {
		// The rows of one replica's key and member are replaced by those of another history.
		other := openBox(t, "z")
		write(t, other, put("hosts", "web1", parse(t, "{wrong: yes}")), put("hosts", "ghost", parse(t, "{a: 1}")),
			put("tags", "t1", parse(t, "{n: 7}")), func(tx *hostdb.Tx) error { return tx.AddMember("tags", "t1", "ghost") })
		var puts []hostdb.Put
		for _, prefix := range []string{"khosts\x00web1", "khosts\x00ghost", "etags\x00t1\x00ghost"} {
			err := other.storage.Scan([]byte(prefix), nil, func(key, value []byte) error {
				puts = append(puts, hostdb.Put{Key: append([]byte(nil), key...), Value: append([]byte(nil), value...)})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := b.storage.Commit(puts); err != nil {
			t.Fatal(err)
		}
		b.restart(t)
	}
	sources := map[string]func(a, b *box) (hostdb.View, error){
		"its own log": func(_, b *box) (hostdb.View, error) { return b.store.Refold(ctx) },
		"a healthy replica": func(a, _ *box) (hostdb.View, error) {
			v := a.store.View()
			var pieces [][]byte
			for after, more := "", true; more; {
				piece, last := v.Piece(after, 500)
				pieces = append(pieces, piece)
				after, more = last, last != ""
			}
			return hostdb.StateOf(v.EncodeHeads(), pieces)
		},
	}
	for name, right := range sources {
		a, b := busyBox(t), openBox(t, "b")
		b.clock.now = a.clock.now
		deliverAll(t, a, b)
		damage(b)
		if digests(b.store.View()) == digests(a.store.View()) {
			t.Fatalf("%s: nothing was damaged", name)
		}
		view, err := right(a, b)
		if err != nil {
			t.Fatal(err)
		}
		write(t, b, put("hosts", "later", parse(t, "{b: 2}"))) // comes meanwhile
		diffs, err := b.store.Repair(ctx, view)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		keys := map[string]bool{}
		for _, d := range diffs {
			keys[d.NS+"/"+d.Key] = true
		}
		if len(keys) != 3 || !keys["hosts/web1"] || !keys["hosts/ghost"] || !keys["tags/t1"] {
			t.Errorf("%s: replaced %v", name, keys)
		}
		exchange(t, a, b)
		for range 2 {
			if picture(b.store.View()) != picture(a.store.View()) || digests(b.store.View()) != digests(a.store.View()) {
				t.Errorf("%s: repaired to\n%s\nnot\n%s", name, picture(b.store.View()), picture(a.store.View()))
			}
			checkIndexes(t, b.store.View())
			b.restart(t)
		}
		if diffs, err := b.store.Repair(ctx, view); err != nil || len(diffs) != 0 {
			t.Errorf("%s: a second time: %v, %v", name, diffs, err)
		}
		write(t, a, put("hosts", "not yet there", parse(t, "1")))
		if _, err := b.store.Repair(ctx, a.store.View()); !errors.Is(err, hostdb.ErrMoved) {
			t.Errorf("%s: a state with more operations: %v", name, err)
		}
	}
}

func TestRetiredRuns(t *testing.T) {
	ctx := context.Background()
	a, b := busyBox(t), openBox(t, "b")
	b.clock.now = a.clock.now
	write(t, b, put("hosts", "from-b", parse(t, "1")))
	exchange(t, a, b)
	all := len(collectHeads(a.store.View()))
	cursor := a.store.View().Cursor()
	var closed []hostdb.Head
	for h := range a.store.View().Heads() {
		if h.Node == "a" && h.Origin != a.store.Origin() {
			closed = append(closed, h)
		}
	}
	if len(closed) != 2 {
		t.Fatalf("%d closed runs", len(closed))
	}
	public := func(v hostdb.View) string { // without the key that lists what was retired
		var lines []string
		for line := range strings.Lines(picture(v)) {
			if !strings.HasPrefix(line, hostdb.System) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	answers := public(a.store.View())
	if _, err := b.store.RetireRuns(ctx, closed); err != nil {
		t.Fatal(err)
	}
	if a.store.View().Retired() == b.store.View().Retired() {
		t.Error("a digest of retired runs is the same with and without them")
	}
	// One that holds the retirement but not the runs must go on asking for them.
	c := openBox(t, "c")
	c.clock.now = a.clock.now
	deliver(t, b, c, b.store.Origin(), 0, 100)
	if c.store.View().Retired() == b.store.View().Retired() {
		t.Error("who lacks a retired run does not show it")
	}
	deliverAll(t, b, c)
	join(t, b.store.View(), openBox(t, "d"), 100, nil)
	exchange(t, a, b)
	for _, x := range []*box{a, b, c} {
		for range 2 {
			v := x.store.View()
			if n := len(collectHeads(v)); n != all-2 || v.Retired() != b.store.View().Retired() {
				t.Errorf("%s names %d runs of %d, digest %s", x.name, n, all, v.Retired())
			}
			if public(v) != answers {
				t.Errorf("%s answers otherwise", x.name)
			}
			if v.Version().String() != a.store.View().Version().String() {
				t.Errorf("%s has another version", x.name)
			}
			x.restart(t)
		}
	}
	// Who follows from before misses nothing and hears nothing twice.
	v := a.store.View()
	list, next, err := a.store.Since(ctx, cursor, v, 100)
	if err != nil || len(list) != 1 || next.String() != v.Cursor().String() {
		t.Errorf("since before the retirement: %d revisions, %v", len(list), err)
	}
	parsed, err := hostdb.ParseCursor(v.Cursor().String())
	if err != nil {
		t.Fatal(err)
	}
	if list, _, err := a.store.Since(ctx, parsed, v, math.MaxInt); err != nil || len(list) != 0 {
		t.Errorf("since now: %d revisions, %v", len(list), err)
	}
	if list, _, err := a.store.Since(ctx, hostdb.Cursor{}, v, math.MaxInt); err != nil || len(list) != len(revisionsOf(t, a)) {
		t.Errorf("since the beginning: %d revisions of %d, %v", len(list), len(revisionsOf(t, a)), err)
	}
}

func collectHeads(v hostdb.View) (heads []hostdb.Head) {
	for h := range v.Heads() {
		heads = append(heads, h)
	}
	return heads
}

// Two boxes that write on under one identity, as a machine does that was copied while it ran: what one has taken it keeps, and
// what the other wrote is kept aside.
func TestForksAreKept(t *testing.T) {
	a := openBox(t, "a")
	write(t, a, put("hosts", "web1", parse(t, "{a: 1}")))
	b, c := openBox(t, "b"), openBox(t, "c")
	deliverAll(t, a, b)
	write(t, a, put("hosts", "web1", parse(t, "{a: 2}")))
	origin := a.store.Origin()
	ops, err := a.store.Operations(origin, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	// The other side's second operation: the same bytes but for what it says.
	forged := []byte(strings.Replace(string(ops[0]), "test", "text", 1))
	deliverAll(t, a, c)
	for range 2 {
		if _, err := b.store.Apply(context.Background(), [][]byte{forged}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.Apply(context.Background(), ops); !errors.Is(err, hostdb.ErrFork) {
			t.Fatalf("the other side of a fork: %v", err)
		}
		b.restart(t)
	}
	forks, err := b.store.Forks()
	if err != nil || len(forks) != 1 || forks[0].Origin != origin || forks[0].Seq != 2 || forks[0].Node != "a" || forks[0].Revision.IsZero() {
		t.Fatalf("kept aside: %+v, %v", forks, err)
	}
	if b.store.View().Version().String() == c.store.View().Version().String() {
		t.Error("chains that fork have one version")
	}
}

func TestSkewAgainstTheMedian(t *testing.T) {
	b := openBox(t, "a")
	for _, test := range []struct {
		ahead  time.Duration
		clocks int
		refuse bool
	}{
		{0, 5, false}, {999 * time.Millisecond, 5, false}, {2 * time.Second, 5, true}, {-2 * time.Second, 3, true}, {-time.Hour, 2, false},
	} {
		b.store.SetSkew(func() (time.Duration, int) { return test.ahead, test.clocks })
		_, err := b.update(t, put("hosts", "web1", parse(t, fmt.Sprintf("{a: %d}", test.ahead))))
		if got := errors.Is(err, hostdb.ErrClock); got != test.refuse {
			t.Errorf("%s off with %d clocks: %v", test.ahead, test.clocks, err)
		}
	}
}

// Who has not heard of what the others hold writes nothing of its own, and takes what comes.
func TestGate(t *testing.T) {
	a, b := busyBox(t), openBox(t, "b")
	b.clock.now = a.clock.now
	shut := errors.New("nobody was reached yet")
	b.store.SetGate(func() error { return shut })
	_, err := b.store.Update(context.Background(), hostdb.Request{}, put("hosts", "x", parse(t, "1")))
	if !errors.Is(err, hostdb.ErrUnavailable) || !errors.Is(err, shut) {
		t.Errorf("a write behind a shut gate: %v", err)
	}
	deliverAll(t, a, b)
	shut = nil
	write(t, b, put("hosts", "x", parse(t, "1")))
}

func FuzzPiece(f *testing.F) {
	a := busyBox(f)
	piece, _ := a.store.View().Piece("", 1<<20)
	f.Add(piece, a.store.View().EncodeHeads())
	f.Fuzz(func(t *testing.T, piece, heads []byte) {
		if v, err := hostdb.StateOf(heads, [][]byte{piece}); err == nil {
			_ = picture(v)
			checkIndexes(t, v)
			again, _ := v.Piece("", 1<<30)
			if w, err := hostdb.StateOf(v.EncodeHeads(), [][]byte{again}); err != nil || digests(w) != digests(v) {
				t.Fatalf("a state that was read is not written as it is: %v", err)
			}
		}
	})
}
