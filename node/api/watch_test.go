package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// write puts a value into a key of a store.
func write(t testing.TB, s *hostdb.Store, ns, key, yaml string) hostdb.Stamp {
	t.Helper()
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Update(context.Background(), hostdb.Request{User: "alice", Log: "log of " + key}, func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) })
	if err != nil {
		t.Fatal(err)
	}
	return c.Revision
}

// replicate gives to what from holds and to does not.
func replicate(t testing.TB, from, to *hostdb.Store) {
	t.Helper()
	for origin := range from.View().Vector() {
		raws, err := from.Operations(origin, to.View().Seq(origin), 1<<20)
		if err == nil {
			_, err = to.Apply(context.Background(), raws)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listener is a watcher whose events come on a channel.
type listener struct {
	events chan Event
	done   chan error
	cancel context.CancelFunc
}

func listen(t testing.TB, s Feed, from position, f filter) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{make(chan Event, 1000), make(chan error, 1), cancel}
	w := watcher{feed: s, filter: f, from: from, beat: time.Hour,
		send: func(e Event) error { l.events <- e; return nil }, idle: func(position) error { return nil }}
	go func() { l.done <- w.run(ctx) }()
	t.Cleanup(func() { cancel(); <-l.done })
	return l
}

// next is the next event of a listener.
func (l *listener) next(t testing.TB) Event {
	t.Helper()
	select {
	case e := <-l.events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happens")
		return Event{}
	}
}

// untilSynced are the events before the first synced, and that.
func (l *listener) untilSynced(t testing.TB) (list []Event, synced Event) {
	t.Helper()
	for {
		e := l.next(t)
		if e.Kind == EventSynced {
			return list, e
		}
		list = append(list, e)
	}
}

func TestWatchTellsWhatHappens(t *testing.T) {
	s := openStore(t, "n")
	id := write(t, s, "hosts", "web1", "{IP: 10.1.0.1}")
	l := listen(t, s, position{}, filter{data: true})
	list, synced := l.untilSynced(t)
	item, _ := s.View().Get("hosts", "web1")
	rev, err := s.Revision(id)
	if err != nil {
		t.Fatal(err)
	}
	want := []Event{{
		Kind: EventRevision, Cursor: s.View().Cursor().String(), Revision: id.String(), User: "alice", Time: rev.At.UTC(), Log: "log of web1",
		Changes:   []Change{{ID: "hosts/web1", What: "data", Kind: "create"}, {ID: "hosts/web1", What: "data", Kind: "set", Path: []string{"IP"}}},
		Documents: []EventDocument{{ID: "hosts/web1", ETag: item.ETag(hostdb.Data), Data: json.RawMessage(`{"IP":"10.1.0.1"}`)}},
	}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("the backlog (-want +got):\n%s", diff)
	}
	if synced.Cursor != want[0].Cursor || synced.Version != s.View().Version().String() {
		t.Errorf("synced: %+v", synced)
	}
	if _, err := s.Update(t.Context(), hostdb.Request{User: "bob", Log: "x"}, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web1") }); err != nil {
		t.Fatal(err)
	}
	e := l.next(t)
	if e.User != "bob" || len(e.Changes) != 1 || e.Changes[0].Kind != "delete" || len(e.Documents) != 1 || e.Documents[0].Data != nil || e.Documents[0].ETag != "" {
		t.Errorf("live: %+v", e)
	}
}

// activeOnly matches hosts whose Status is active.
type activeOnly struct{}

func (activeOnly) Match(v hostdb.View, ns, key string) (bool, error) {
	return ns == hostdb.Hosts && v.Data(ns, key).Text("Status") == "active", nil
}

func TestWatchFilters(t *testing.T) {
	s := openStore(t, "n")
	write(t, s, "hosts", "web1", "{Status: active}")
	write(t, s, "hosts", "web2", "{Status: retired}")
	write(t, s, "hosts", "web3", "{Status: active}")
	write(t, s, "tags", "web", "{}")
	update := func(fn func(*hostdb.Tx) error) {
		t.Helper()
		if _, err := s.Update(t.Context(), hostdb.Request{EvenReadOnly: true}, fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *hostdb.Tx) error { return tx.SetMembers("tags", "web", []hostdb.Member{{Name: "web1"}}) })
	update(func(tx *hostdb.Tx) error { return tx.Delete("hosts", "web3") }) // it was active
	update(func(tx *hostdb.Tx) error { return tx.SetReadOnly(false, "") })  // .system is nobody's business
	for _, c := range []struct {
		name string
		f    filter
		want string
	}{
		{"everything", filter{}, "hosts/web1 hosts/web2 hosts/web3 tags/web tags/web hosts/web3"},
		{"a namespace", filter{ns: "tags"}, "tags/web tags/web"},
		{"a prefix", filter{ns: "hosts", prefix: "web2"}, "hosts/web2"},
		{"members", filter{what: []hostdb.Resource{hostdb.Members}}, "tags/web hosts/web3"},
		{"perms", filter{ns: "tags", what: []hostdb.Resource{hostdb.Perms}}, ""},
		{"an expression", filter{ns: "hosts", where: activeOnly{}}, "hosts/web1 hosts/web3 hosts/web3"},
		{"another namespace", filter{ns: "vips"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := listen(t, s, position{}, c.f)
			list, synced := l.untilSynced(t)
			var ids []string
			for _, e := range list {
				ids = append(ids, e.Changes[0].ID)
			}
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if synced.Cursor != s.View().Cursor().String() {
				t.Error("the cursor stays behind what is not asked for")
			}
		})
	}
	// A key that does not match any more is told of once.
	l := listen(t, s, position{cursor: s.View().Cursor()}, filter{ns: "hosts", where: activeOnly{}})
	l.untilSynced(t)
	write(t, s, "hosts", "web1", "{Status: maintenance}")
	if e := l.next(t); e.Changes[0].ID != "hosts/web1" {
		t.Errorf("%+v", e)
	}
	write(t, s, "hosts", "web1", "{Status: broken}")
	write(t, s, "hosts", "web4", "{Status: active}")
	if e := l.next(t); e.Changes[0].ID != "hosts/web4" {
		t.Errorf("%+v", e)
	}
}

// TestWatchFromAnyPosition: whatever was heard where, going on from there at another replica gives exactly the rest, once
// and in the order of stamps.
func TestWatchFromAnyPosition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nodes := []*hostdb.Store{openStore(t, "a"), openStore(t, "b"), openStore(t, "c")}
		all := map[string]bool{}
		for i := range rapid.IntRange(1, 120).Draw(rt, "writes") {
			n := rapid.IntRange(0, len(nodes)-1).Draw(rt, "node")
			all[write(t, nodes[n], "hosts", fmt.Sprintf("h%d", i%7), fmt.Sprintf("{n: %d}", i)).String()] = true
			if rapid.IntRange(0, 9).Draw(rt, "sync") == 0 {
				replicate(t, nodes[n], nodes[(n+1)%len(nodes)])
			}
		}
		heard := map[string]bool{}
		at := position{}
		for round := 0; ; round++ {
			n := rapid.IntRange(0, len(nodes)-1).Draw(rt, "at")
			stop := rapid.IntRange(0, 100).Draw(rt, "stop")
			if round == 8 { // and at last everything everywhere
				for _, from := range nodes {
					for _, to := range nodes {
						replicate(t, from, to)
					}
				}
				stop = 1 << 20
			}
			f := follower{feed: nodes[n], at: at}
			v := nodes[n].View()
			var last hostdb.Stamp
			for range stop {
				rev, ok, err := f.take(context.Background(), v)
				if err != nil {
					rt.Fatal(err)
				}
				if !ok {
					break
				}
				id := rev.ID.String()
				if heard[id] {
					rt.Fatalf("%s comes twice", id)
				}
				if rev.ID.Less(last) {
					rt.Fatalf("%s comes after %s", id, last)
				}
				heard[id], last = true, rev.ID
			}
			text := f.position().String()
			var err error
			if at, err = parsePosition(text); err != nil || at.String() != text {
				rt.Fatalf("position %s: %v, read back as %s", text, err, at)
			}
			if round == 8 {
				break
			}
		}
		if diff := cmp.Diff(all, heard); diff != "" {
			rt.Fatalf("written and heard (-written +heard):\n%s", diff)
		}
	})
}

func TestWatchFromAMoment(t *testing.T) {
	s := openStore(t, "n")
	var ids []hostdb.Stamp
	for i := range 200 {
		ids = append(ids, write(t, s, "hosts", "web1", fmt.Sprint(i)))
	}
	for _, i := range []int{0, 63, 64, 100, 199} {
		p, err := beginning(t.Context(), s, s.View(), ids[i])
		if err != nil {
			t.Fatal(err)
		}
		f := follower{feed: s, at: p}
		rev, ok, err := f.take(t.Context(), s.View())
		if err != nil || ok != (i < 199) || ok && rev.ID != ids[i+1] {
			t.Errorf("after %d comes %s, %t, %v", i, rev.ID, ok, err)
		}
	}
}

func TestPositionThatIsNone(t *testing.T) {
	good := hostdb.Cursor{}.String()
	for _, text := range []string{"", "x", "~", good + "~", good + "~1", good + "~1:0", good + "~1:1,", good + "~x:1", good + "~1:" + strings.Repeat("f", 17)} {
		if p, err := parsePosition(text); !errors.Is(err, hostdb.ErrInvalid) {
			t.Errorf("%q was taken for %v (%v)", text, p, err)
		}
	}
}

// TestWatchTooSlow: a reader that was up to date and does not keep up is told so and closed, with where to go on.
func TestWatchTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := hostdbtest.NewMemory()
		s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return memory, nil }, NodeID: "n"})
		if err != nil {
			t.Fatal(err)
		}
		var heard []Event
		ready := make(chan struct{})
		w := watcher{feed: s, beat: time.Hour, stop: make(chan struct{}), idle: func(position) error { return nil }}
		w.send = func(e Event) error {
			if e.Kind == EventSynced {
				close(ready)
			}
			if e.Kind == EventRevision {
				time.Sleep(time.Second) // a reader of one event a second
			}
			heard = append(heard, e)
			return nil
		}
		done := make(chan error, 1)
		go func() { done <- w.run(t.Context()) }()
		<-ready
		for i := range 2 * maxBehind {
			write(t, s, "hosts", "web1", fmt.Sprint(i))
		}
		if err := <-done; !errors.Is(err, errSlow) {
			t.Fatalf("it ended with %v", err)
		}
		last := heard[len(heard)-1]
		if last.Kind != EventOverrun || last.Reason == "" || len(heard) < 10 || len(heard) > 30 {
			t.Fatalf("after %d events: %+v", len(heard), last)
		}
		// What follows is exactly the rest.
		p, err := parsePosition(last.Cursor)
		if err != nil {
			t.Fatal(err)
		}
		f, rest := follower{feed: s, at: p}, 0
		for {
			if _, ok, err := f.take(t.Context(), s.View()); err != nil {
				t.Fatal(err)
			} else if !ok {
				break
			}
			rest++
		}
		if told := len(heard) - 2; told+rest != 2*maxBehind {
			t.Errorf("%d told and %d left of %d", told, rest, 2*maxBehind)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// site is a replica with watchers behind a server.
type site struct {
	store    *hostdb.Store
	watchers *Watchers
	client   *Client
}

func newSite(t *testing.T, feed Feed, store *hostdb.Store) *site {
	t.Helper()
	s := &site{store: store, watchers: NewWatchers(WatchConfig{Feed: feed, Compile: func(where, ns string) (Matcher, error) {
		if where != "active" || ns != hostdb.Hosts {
			return nil, fmt.Errorf("column 1: %s of %s", where, ns)
		}
		return activeOnly{}, nil
	}})}
	h := NewHandler(Config{Objects: store, Watchers: s.watchers, Identify: identify})
	s.client = serve(t, h, "root")
	t.Cleanup(func() { s.watchers.Close() })
	return s
}

// TestWatchOverHTTP: what is read and then watched from is without a gap, at this node and at another.
func TestWatchOverHTTP(t *testing.T) {
	a := openStore(t, "a")
	b := openStore(t, "b")
	one, two := newSite(t, a, a), newSite(t, b, b)
	write(t, a, "hosts", "web1", "{}")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	page, err := one.client.Keys(ctx, "hosts", ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, a, "hosts", "web2", "{}")
	write(t, a, "hosts", "web3", "{}")
	cursor := ""
	for e, err := range one.client.Watch(ctx, WatchOptions{From: page.Cursor}) {
		if err != nil || e.Kind != EventRevision || e.Changes[0].ID != "hosts/web2" {
			t.Fatalf("%+v %v", e, err)
		}
		cursor = e.Cursor // in the middle of a batch
		break
	}
	// The other node has nothing of it yet: the reader waits there until it has.
	got := make(chan Event)
	go func() {
		defer close(got)
		for e, err := range two.client.Watch(ctx, WatchOptions{From: cursor, Reconnecting: func(error, time.Duration) {}}) {
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case got <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	replicate(t, a, b)
	if e := <-got; e.Kind != EventRevision || e.Changes[0].ID != "hosts/web3" {
		t.Errorf("at the other node: %+v", e)
	}
	if e := <-got; e.Kind != EventSynced {
		t.Errorf("then: %+v", e)
	}
	write(t, b, "hosts", "web4", "{}")
	if e := <-got; e.Kind != EventRevision || e.Changes[0].ID != "hosts/web4" {
		t.Errorf("live: %+v", e)
	}
	if s := two.watchers.Stats(); s.Watching != 1 || s.Events < 3 {
		t.Errorf("%+v", s)
	}
	cancel()
	for range got {
	}
}

func TestWatchReconnects(t *testing.T) {
	s := openStore(t, "n")
	w := NewWatchers(WatchConfig{Feed: s})
	first, second := NewHandler(Config{Watchers: w}), NewHandler(Config{Watchers: NewWatchers(WatchConfig{Feed: s})})
	var breaks atomic.Int32 // how often the way to the agent has broken
	c := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch breaks.Load() {
		case 0:
			first.ServeHTTP(rw, r)
		case 1:
			panic(http.ErrAbortHandler)
		default:
			second.ServeHTTP(rw, r)
		}
	}), "")
	var whys []string
	n := 0
	for e, err := range c.Watch(t.Context(), WatchOptions{Reconnecting: func(why error, pause time.Duration) {
		whys = append(whys, why.Error())
		if pause <= 0 || pause > 2*maxPause {
			t.Errorf("a pause of %s", pause)
		}
		write(t, s, "hosts", "web1", fmt.Sprint(len(whys))) // while nobody listens
		breaks.Add(1)
	}}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == EventSynced && n == 0 {
			w.Close()
		}
		if e.Kind == EventRevision {
			if n++; n == 2 {
				break
			}
		}
	}
	if len(whys) != 2 || !strings.Contains(whys[0], "the agent stops") || !strings.Contains(whys[1], "cannot be reached") {
		t.Errorf("it connected again because of %q", whys)
	}
}

// goneFeed has dropped old history.
type goneFeed struct{ *hostdb.Store }

func (goneFeed) Since(context.Context, hostdb.Cursor, hostdb.View, int) ([]hostdb.Revision, hostdb.Cursor, error) {
	return nil, hostdb.Cursor{}, fmt.Errorf("operations after 3: %w", hostdb.ErrNotFound)
}

func TestWatchThatIsRefused(t *testing.T) {
	s := openStore(t, "n")
	one := newSite(t, s, s)
	for _, o := range []WatchOptions{
		{From: "nonsense"}, {NS: ".system"}, {What: []string{"data", "everything"}}, {Where: "tags =="}, {Where: "active", NS: "tags"},
	} {
		n := 0
		for _, err := range one.client.Watch(t.Context(), o) {
			if n++; !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v: %v", o, err)
			}
		}
		if n != 1 {
			t.Errorf("%+v: %d events", o, n)
		}
	}
	if n := one.watchers.Stats().Watching; n != 0 {
		t.Errorf("%d watch who were refused", n)
	}
	gone := newSite(t, goneFeed{s}, s)
	for _, err := range gone.client.Watch(t.Context(), WatchOptions{From: s.View().Cursor().String()}) {
		if !errors.Is(err, ErrGone) {
			t.Errorf("history that is gone: %v", err)
		}
	}
	// One more than may.
	one.watchers.watching.Store(MaxWatchers)
	w := get(NewHandler(Config{Watchers: one.watchers}), "GET", "/api/v1/watch", near, "")
	if w.Code != http.StatusServiceUnavailable || one.watchers.Stats().Watching != MaxWatchers {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	one.watchers.watching.Store(0)
	if w := get(NewHandler(Config{Watchers: one.watchers}), "GET", "/api/v1/watch", far, ""); w.Code != http.StatusUnauthorized {
		t.Errorf("nobody from elsewhere: %d", w.Code)
	}
}

// TestWatchWaitsForWhatItDoesNotHave: a cursor of a neighbour is waited for, and not for ever.
func TestWatchWaitsForWhatItDoesNotHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memories := []*hostdbtest.Memory{hostdbtest.NewMemory(), hostdbtest.NewMemory()}
		var stores []*hostdb.Store
		for _, m := range memories {
			s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return m, nil }, NodeID: "n"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			stores = append(stores, s)
		}
		write(t, stores[0], "hosts", "web1", "{}")
		w := NewWatchers(WatchConfig{Feed: stores[1]})
		cursor := stores[0].View().Cursor()
		begin := time.Now()
		_, err := w.start(t.Context(), &watchInput{From: cursor.String()})
		var p interface{ GetStatus() int }
		if !errors.As(err, &p) || p.GetStatus() != http.StatusConflict || time.Since(begin) != coverWait {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := w.start(t.Context(), &watchInput{LastEventID: cursor.String(), From: "now"})
			result <- err
		}()
		synctest.Wait()
		replicate(t, stores[0], stores[1])
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// readEvent reads the next event, or one without a kind that only moves the cursor.
func readEvent(in *bufio.Reader, beat func()) (Event, error) {
	f, err := readFrame(in, beat)
	if err != nil {
		return Event{}, err
	}
	return eventOf(f)
}

// TestWatchFrames: what stands on the wire, and what a reader makes of it.
func TestWatchFrames(t *testing.T) {
	s := openStore(t, "n")
	write(t, s, "hosts", "web1", `"<b>\nline"`)
	w := NewWatchers(WatchConfig{Feed: s})
	srv := httptest.NewServer(NewHandler(Config{Watchers: w}))
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/api/v1/watch?from=0&data=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	in := bufio.NewReader(resp.Body)
	e, err := readEvent(in, func() {})
	if err != nil || string(e.Documents[0].Data) != `"<b>\nline"` {
		t.Errorf("%+v %v", e, err)
	}
	if e, err = readEvent(in, func() {}); err != nil || e.Kind != EventSynced {
		t.Errorf("%+v %v", e, err)
	}
	w.Close()
	if e, err = readEvent(in, func() {}); err != nil || e.Kind != EventBye || e.Reason == "" || e.Cursor == "" {
		t.Errorf("%+v %v", e, err)
	}
	if _, err = readEvent(in, func() {}); !errors.Is(err, io.EOF) {
		t.Errorf("after bye: %v", err)
	}
	head, err := http.Head(srv.URL + "/api/v1/watch?from=now")
	if err != nil || head.StatusCode != 200 && head.StatusCode != 503 {
		t.Errorf("HEAD: %v %v", head, err)
	}
	head.Body.Close()

	// Keep-alives are no events, and move the cursor of who hears nothing.
	in = bufio.NewReader(strings.NewReader(": hostmesh\n\n: alive\n\n: alive\nid: abc\n\nid: d\nevent: synced\ndata: {\"cursor\":\"d\"}\n\n"))
	if e, err := readEvent(in, func() {}); err != nil || e.Kind != "" || e.Cursor != "abc" {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := readEvent(in, func() {}); err != nil || e.Kind != EventSynced || e.Cursor != "d" {
		t.Errorf("%+v %v", e, err)
	}
}

// TestWatchStalls: a reader that reads nothing is cut off and holds up nobody.
func TestWatchStalls(t *testing.T) {
	s := openStore(t, "n")
	broken := errors.New("write deadline")
	sent := 0
	w := watcher{feed: s, beat: time.Hour, idle: func(position) error { return nil }, send: func(Event) error {
		if sent++; sent > 3 {
			return broken
		}
		return nil
	}}
	for i := range 10 + rand.IntN(10) {
		write(t, s, "hosts", "web1", fmt.Sprint(i))
	}
	if err := w.run(t.Context()); !errors.Is(err, broken) || sent != 4 {
		t.Errorf("%v after %d", err, sent)
	}
}
