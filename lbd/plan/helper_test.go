package plan

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/mesh"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, have string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != have {
		t.Errorf("%s is not current (%v): look at what changed, then run go test ./lbd/plan -update\n%s", file, err, have)
	}
}

// fataler is testing.TB and rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is what a plan is made of.
type world struct {
	t        fataler
	store    *hostdb.Store
	members  map[string]mesh.State
	edit     func(mesh.View) mesh.View
	now      time.Time
	verdicts map[string]Judgement // by host; absent = Up
	drained  map[string]string
	judged   []string
	unjudged bool // no verdict is known of whoever is not in verdicts
	programs map[string]bool
	last     Result
	planner  *Planner
}

func newWorld(t fataler) *world {
	t.Helper()
	mem := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return mem, nil }, NodeID: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &world{
		t: t, store: s, now: time.Unix(1_900_000_000, 0).UTC(), verdicts: map[string]Judgement{}, drained: map[string]string{},
		members: map[string]mesh.State{}, planner: NewPlanner(Result{}),
	}
}

// write is one operation: documents by id, "" deletes; members as tags/NAME/members.
func (w *world) write(docs map[string]string) {
	w.t.Helper()
	_, err := w.store.Update(context.Background(), hostdb.Request{User: "test", Log: "test", Lenient: true}, func(tx *hostdb.Tx) error {
		for _, id := range slices.Sorted(maps.Keys(docs)) {
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
			if text == "" {
				if err := tx.Delete(ns, key); err != nil {
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
		w.t.Fatalf("%v", err)
	}
}

func (w *world) mesh() mesh.View {
	var list []mesh.Member
	for i, name := range slices.Sorted(maps.Keys(w.members)) {
		list = append(list, mesh.Member{ID: fmt.Sprintf("%032x", i+1), Name: name, State: w.members[name]})
	}
	v := mesh.NewView("", list)
	if w.edit != nil {
		v = w.edit(v)
	}
	return v
}

func (w *world) input() Input {
	return Input{Now: w.now, Drained: w.drained, Judged: w.judged, Programs: w.programs, Verdict: func(_, host string, _ netip.Addr) Verdict {
		j, ok := w.verdicts[host]
		switch {
		case !ok && w.unjudged:
			return Verdict{}
		case !ok:
			return Verdict{Judgement: Up}
		case j == Down:
			return Verdict{Down, "connection refused"}
		}
		return Verdict{Judgement: j}
	}}
}

// plan makes the next plan, by the Planner, and checks that a plan of its own says the same.
func (w *world) plan() Result {
	w.t.Helper()
	db, m := w.store.View(), w.mesh()
	w.judged = nil
	for _, s := range w.last.Services {
		w.judged = append(w.judged, s.Tag)
	}
	in := w.input()
	have := w.planner.Plan(db, m, in)
	if !m.MassSuspicion() {
		want := Plan(db, m, in, w.last)
		if a, b := show(have), show(want); a != b {
			w.t.Fatalf("a Planner says\n%s\nand a plan of its own\n%s", a, b)
		}
	}
	w.last = have
	return have
}

func (w *world) after(d time.Duration) { w.now = w.now.Add(d) }

const prod = "Subnet: {CIDR: 10.1.0.0/16, Gateway: 10.1.0.1, Bridge: br0, Datacenter: dc1, VIPs: 10.1.0.48/28, Pool: 10.1.128.0/17}"

// web is a balanced tag with n members at 10.1.8.1 and on.
func web(n int) map[string]string {
	docs := map[string]string{"tags/prod": prod, "tags/web": "LB: {VIP: 10.1.0.50, Ports: {80/tcp: 8080}}", "tags/web/members": listOf(1, n)}
	for i := 1; i <= n; i++ {
		docs[hostID(i)] = fmt.Sprintf("Network: {IP: 10.1.8.%d}", i)
	}
	return docs
}

func name(i int) string   { return fmt.Sprintf("web%02d", i) }
func hostID(i int) string { return "hosts/" + name(i) }

// listOf is a member list of some of the hosts.
func listOf(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		b.WriteString(name(i) + "\n")
	}
	return b.String()
}

func show(r Result) string {
	var b strings.Builder
	for _, s := range r.Services {
		fmt.Fprintf(&b, "%s: %s %s %s dc=%s if=%s %s %s check=%s/%s/%d/%d", s.Tag, s.Duty(), s.Subnet, s.CIDR, s.Datacenter, s.Interface, s.Mode, s.Balance, s.Check.Type, s.Check.Interval, s.Check.Rise, s.Check.Fall)
		for _, f := range s.Ports {
			fmt.Fprintf(&b, " %d/%s>%d", f.Port, f.Proto, f.To)
		}
		for _, flag := range []struct {
			on   bool
			name string
		}{{s.Masquerade, "masquerade"}, {s.Keep, "keep"}, {s.TLS != "", "tls=" + s.TLS}, {s.FailOpen, "FAIL-OPEN"}, {s.Kept, "KEPT"}} {
			if flag.on {
				b.WriteString(" " + flag.name)
			}
		}
		b.WriteString("\n")
		for i := range s.Backends {
			x := &s.Backends[i]
			fmt.Fprintf(&b, "  %-8s %-10s %-8s %s", x.Host, x.Addr, x.State, x.Cause)
			if x.Held {
				b.WriteString(" HELD")
			}
			if !x.Since.IsZero() {
				b.WriteString(" since " + x.Since.Format("15:04:05"))
			}
			b.WriteString(" " + x.Why + "\n")
		}
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "! %s %s\n", p.Name, p.Text)
	}
	if !r.Next.IsZero() {
		b.WriteString("next " + r.Next.Format("15:04:05") + "\n")
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// states is one service in a line: each host with i, d or o, and a + where it is held.
func states(r Result, tag string) string {
	s, ok := r.Service(tag)
	if !ok {
		return "none"
	}
	var out []string
	for i := range s.Backends {
		b := &s.Backends[i]
		x := strings.TrimPrefix(b.Host, "web0") + string(b.State)[:1]
		if b.Held {
			x += "+"
		}
		out = append(out, x)
	}
	return strings.Join(out, " ")
}

func hasProblem(r Result, tag string, name ProblemName) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Tag == tag && p.Name == name })
}

var _ = []fataler{(*testing.T)(nil), (*testing.B)(nil)}
