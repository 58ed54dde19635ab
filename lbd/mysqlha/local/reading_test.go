package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hostmesh/lbd/mysqlha"
)

// TestReaders: who may answer readers, step by step.
func TestReaders(t *testing.T) {
	replica := func(lag int) *mysqlha.Facts {
		f := &mysqlha.Facts{ReadOnly: true, Replica: &mysqlha.Replication{IO: "Yes", SQL: true}}
		if lag >= 0 {
			d := time.Duration(lag) * time.Second
			f.Replica.Lag = &d
		}
		return f
	}
	broken := replica(-1)
	broken.Replica.SQL, broken.Replica.SQLErrno, broken.Replica.SQLError = false, 1062, "Duplicate entry"
	primary, alone := &mysqlha.Facts{}, &mysqlha.Facts{ReadOnly: true}
	type step struct {
		after time.Duration
		f     *mysqlha.Facts
		err   error
		in    bool
	}
	silent := errors.New("timed out")
	for name, steps := range map[string][]step{
		"primary":          {{0, primary, nil, true}, {time.Second, nil, silent, false}},
		"follows nobody":   {{0, alone, nil, false}},
		"comes in":         {{0, replica(0), nil, true}, {0, replica(10), nil, true}, {0, replica(11), nil, false}, {0, replica(8), nil, false}, {0, replica(6), nil, false}, {0, replica(5), nil, true}},
		"far at the start": {{0, replica(9), nil, false}, {0, replica(5), nil, true}},
		"unknown lag":      {{0, replica(0), nil, true}, {9 * time.Second, replica(-1), nil, true}, {2 * time.Second, replica(-1), nil, false}, {0, replica(0), nil, true}},
		"never known":      {{0, replica(-1), nil, false}},
		"breaks":           {{0, replica(0), nil, true}, {0, broken, nil, false}},
		"silent":           {{0, replica(0), nil, true}, {time.Second, nil, silent, true}, {10 * time.Second, nil, silent, false}},
		"dies":             {{0, replica(0), nil, true}, {0, nil, errNoProcess, false}},
		"promoted":         {{0, replica(3), nil, true}, {0, alone, nil, false}, {0, primary, nil, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var r reading
			now := time.Unix(1e9, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				r = r.next(s.f, s.err, 10*time.Second, now)
				if r.in != s.in || r.in != (r.why == "") {
					t.Fatalf("step %d: in %t because %q, want %t", i, r.in, r.why, s.in)
				}
			}
		})
	}
}

// TestStateNeverGoesBack: whatever is ordered, in whatever order, and however often it is read again, the epoch never falls, nor the number within one, an earlier order is refused and changes
// nothing, and what the disk has is what was answered.
func TestStateNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "state")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s := openStore(dir, "a/b")
		var epoch, fence uint64
		for range rapid.IntRange(1, 20).Draw(rt, "orders") {
			o := mysqlha.Order{Tag: "a/b", Epoch: rapid.Uint64Range(0, 4).Draw(rt, "epoch"), Fence: rapid.Uint64Range(0, 4).Draw(rt, "fence")}
			why := rapid.StringMatching("[a-z]{0,3}").Draw(rt, "mark")
			before, _ := s.get()
			do := s.order
			if rapid.Bool().Draw(rt, "restrains") {
				do = s.restrain
			}
			err := do(o, func(st *state) { st.Marked = why })
			low := o.Epoch < epoch || o.Epoch == epoch && o.Fence < fence
			now, _ := s.get()
			if low != errors.Is(err, mysqlha.ErrOvertaken) || !low && err != nil {
				rt.Fatalf("%+v after epoch %d, number %d: %v", o, epoch, fence, err)
			}
			if low && !same(before, now) {
				rt.Fatalf("an order that was refused made %+v of %+v", now, before)
			}
			if !low {
				epoch, fence = o.Epoch, o.Fence
			}
			if now.Epoch != epoch || now.Fence != fence || !low && now.Marked != why {
				rt.Fatalf("after %+v: %+v", o, now)
			}
			if rapid.Bool().Draw(rt, "again") {
				s = openStore(dir, "a/b")
				if read, err := s.get(); err != nil || !same(read, now) {
					rt.Fatalf("the disk has %+v, not %+v: %v", read, now, err)
				}
			}
		}
	})
}

func same(a, b state) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func TestPositions(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "0-1-2": true, "0-1-2,1-1-18446744073709551615": true, "0-1": false, "0-1-2,": false, "a-1-2": false, "0-1-2'; DROP": false, "4294967296-1-1": false,
	} {
		if validPosition(text) != want {
			t.Errorf("%q is valid: %t", text, !want)
		}
	}
	dir := t.TempDir()
	for name, c := range map[string]struct{ slave, log, want string }{
		"a replica":                 {"SET GLOBAL gtid_slave_pos = '0-1-55,1-2-3';\nCHANGE MASTER TO master_use_gtid = slave_pos\n", "binlog.000001\t330\t0-9-66\n", "0-1-55,1-2-3"},
		"a primary":                 {"", "binlog.000001\t330\t0-1-66\n", "0-1-66"},
		"nothing yet":               {"", "binlog.000001\t330\n", ""},
		"several lines of position": {"", "binlog.000001\t330\t0-1-66,\n1-1-2\n", "0-1-66,1-1-2"},
	} {
		for file, text := range map[string]string{"xtrabackup_slave_info": c.slave, "xtrabackup_binlog_info": c.log} {
			mustDo(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
		}
		if got, err := positionOf(dir); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	mustDo(t, os.Remove(filepath.Join(dir, "xtrabackup_slave_info")))
	mustDo(t, os.WriteFile(filepath.Join(dir, "xtrabackup_binlog_info"), []byte("binlog.000001\t330\t'; DROP\n"), 0o600))
	if _, err := positionOf(dir); err == nil {
		t.Error("a position that is none is taken")
	}
}

// TestErrorsCross: errors keep what they are on their way between agents, and requests that make no sense are refused.
func TestErrorsCross(t *testing.T) {
	for _, c := range codes {
		err := fmt.Errorf("kill: %w: the reason", c.err)
		if back := errorOf(codeOf(err), err.Error()); !errors.Is(back, c.err) || back.Error() != err.Error() {
			t.Errorf("%v comes back as %v", err, back)
		}
	}
	cfg := DefaultConfig()
	cfg.Dir = t.TempDir()
	mustDo(t, os.Chmod(cfg.Dir, 0o700))
	h, err := Open(cfg)
	mustDo(t, err)
	defer h.Close()
	for _, req := range []string{"", "{", "[]"} {
		if _, err := h.ServeLocal(t.Context(), []byte(req)); err == nil {
			t.Errorf("%q is answered", req)
		}
		if _, err := h.ServeClone(t.Context(), []byte(req)); err == nil {
			t.Errorf("clone: %q is answered", req)
		}
	}
	for req, want := range map[string]string{
		`{"what":"dance"}`: `"error"`, `{"what":"state","order":{"tag":"x"}}`: `"not_here"`, `{"what":"cut","order":{"tag":"x"}}`: "source",
	} {
		text, err := h.ServeLocal(t.Context(), []byte(req))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", req, text, err)
		}
	}
	_, err = NewRemote(nowhere{}, "db9").State(t.Context(), "x")
	if !errors.Is(err, mysqlha.ErrSilent) || !strings.Contains(err.Error(), "db9") {
		t.Errorf("nobody answers: %v", err)
	}
}

type nowhere struct{}

func (nowhere) Call(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errNobody
}

func (n nowhere) CallUrgent(ctx context.Context, host, name string, req []byte) ([]byte, error) {
	return n.Call(ctx, host, name, req)
}

// TestOpen refuses directories that others can read: there are passwords in it for a while.
func TestOpen(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Dir = t.TempDir()
	mustDo(t, os.Chmod(cfg.Dir, 0o755))
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("Open: %v", err)
	}
}
