package lease

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func testLog(level slog.Level) (*raftLog, *bytes.Buffer, *time.Time) {
	var b bytes.Buffer
	now := time.Unix(1000, 0)
	l := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	r := newRaftLog(l, nil).(*raftLog)
	r.said.now = func() time.Time { return now }
	return r, &b, &now
}

func TestRaftLog(t *testing.T) {
	r, b, _ := testLog(slog.LevelDebug)
	r.Info("entering leader state", "leader", "n1", "term", 7)
	r.Error("failed to heartbeat to", "peer", "n2", "error", errors.New("gone"))
	r.Error("failed to commit logs", "error", "disk full")
	r.Warn("short", "odd")
	r.Trace("not seen")
	r.Named("snapshot").With("id", 5).Debug("copied", "size", hclog.Fmt("%d / %d", 1, 2))
	r.StandardLogger(nil).Print("a line")
	want := `level=INFO msg=raft text="entering leader state leader=n1 term=7"
level=WARN msg=raft text="failed to heartbeat to peer=n2" err=gone
level=ERROR msg=raft text="failed to commit logs" err="disk full"
level=WARN msg=raft text=short
level=DEBUG msg=raft text="snapshot: copied id=5 size=1 / 2"
level=INFO msg=raft text="a line"
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if r.GetLevel() != hclog.Debug || r.IsTrace() || !r.IsDebug() || !r.IsInfo() || !r.IsWarn() || !r.IsError() {
		t.Errorf("level %v", r.GetLevel())
	}
}

// A peer that is away, or a quorum that is, does not fill the log; each peer, and each change, is still told.
func TestRaftLogRepeats(t *testing.T) {
	r, b, now := testLog(slog.LevelInfo)
	for i := range 600 { // a minute
		r.Error("failed to heartbeat to", "peer", "n2", "backoff time", i, "error", errors.New("gone"))
		r.With("x", i).Error("failed to heartbeat to", "peer", "n3", "error", errors.New("gone"))
		r.Info("entering candidate state", "term", i)
		r.Debug("asking for vote", "term", i)
		*now = now.Add(100 * time.Millisecond)
	}
	for what, want := range map[string]int{"peer=n2": 1, "peer=n3": 1, "entering candidate": 5, "asking": 0} {
		if n := strings.Count(b.String(), what); n != want {
			t.Errorf("%s: %d times, want %d", what, n, want)
		}
	}
	b.Reset()
	r.Error("failed to heartbeat to", "peer", "n2", "error", errors.New("gone"))
	if !strings.Contains(b.String(), "unlogged=599") {
		t.Errorf("a minute later: %s", b)
	}
	for i := range 2 * maxRepeats {
		r.said.repeat(strings.Repeat("x", i), 1)
	}
	if len(r.said.seen) > maxRepeats {
		t.Errorf("remembers %d lines", len(r.said.seen))
	}
}
