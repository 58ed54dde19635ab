package lease

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLog turns what raft logs into slog records with fixed keys: text (raft's words and values), err, unlogged.
//
// raft repeats itself many times a second while a peer is away, or for as long as there is no quorum. The same words about
// the same peer are logged once a minute when they are a warning, and five times a minute when they are information, so
// that a change of leaders is always told. Its errors are mostly a peer's trouble, and are warnings then.
type raftLog struct {
	log  *slog.Logger
	said *repeats
	name string
	args []any // of With
}

const (
	warnBurst = 1
	infoBurst = 5
)

// newRaftLog returns the logger for raft.Config.Logger. now may be nil.
func newRaftLog(l *slog.Logger, now func() time.Time) hclog.Logger {
	if now == nil {
		now = time.Now
	}
	return &raftLog{log: l, said: &repeats{now: now}}
}

// peerKeys are the keys under which raft names a peer.
var peerKeys = map[string]bool{"peer": true, "target": true, "server-id": true, "from": true, "candidate": true}

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}

func (r *raftLog) Log(l hclog.Level, msg string, args ...any) {
	ctx, level := context.Background(), slogLevel(l)
	if l == hclog.Off || !r.log.Enabled(ctx, level) {
		return
	}
	var text strings.Builder
	if r.name != "" {
		text.WriteString(r.name + ": ")
	}
	text.WriteString(msg)
	var failure any
	peer := ""
	each := func(args []any) {
		for i := 0; i+1 < len(args); i += 2 {
			key, value := fmt.Sprint(args[i]), args[i+1]
			if f, ok := value.(hclog.Format); ok && len(f) > 0 {
				value = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
			}
			switch {
			case key == "error":
				failure = value
				continue
			case peerKeys[key]:
				peer = fmt.Sprint(value)
			}
			fmt.Fprintf(&text, " %s=%v", key, value)
		}
	}
	each(r.args)
	each(args)
	if level == slog.LevelError && peer != "" {
		level = slog.LevelWarn
	}
	record := []any{"text", text.String()}
	if failure != nil {
		record = append(record, "err", fmt.Sprint(failure))
	}
	if level >= slog.LevelInfo {
		burst := infoBurst
		if level > slog.LevelInfo {
			burst = warnBurst
		}
		n, loud := r.said.repeat(msg+"\x00"+peer, burst)
		if !loud {
			return
		}
		if n > 0 {
			record = append(record, "unlogged", n)
		}
	}
	r.log.Log(ctx, level, "raft", record...)
}

func (r *raftLog) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLog) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLog) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLog) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLog) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLog) enabled(l hclog.Level) bool {
	return r.log.Enabled(context.Background(), slogLevel(l))
}

func (r *raftLog) IsTrace() bool { return r.enabled(hclog.Trace) }
func (r *raftLog) IsDebug() bool { return r.enabled(hclog.Debug) }
func (r *raftLog) IsInfo() bool  { return r.enabled(hclog.Info) }
func (r *raftLog) IsWarn() bool  { return r.enabled(hclog.Warn) }
func (r *raftLog) IsError() bool { return r.enabled(hclog.Error) }

func (r *raftLog) ImpliedArgs() []any { return r.args }

func (r *raftLog) With(args ...any) hclog.Logger {
	c := *r
	c.args = append(append([]any(nil), r.args...), args...)
	return &c
}

func (r *raftLog) Name() string { return r.name }

func (r *raftLog) Named(name string) hclog.Logger {
	if r.name != "" {
		name = r.name + "." + name
	}
	return r.ResetNamed(name)
}

func (r *raftLog) ResetNamed(name string) hclog.Logger {
	c := *r
	c.name = name
	return &c
}

// SetLevel does nothing: the slog handler decides.
func (r *raftLog) SetLevel(hclog.Level) {}

func (r *raftLog) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if r.enabled(l) {
			return l
		}
	}
	return hclog.Off
}

func (r *raftLog) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(r.StandardWriter(o), "", 0)
}

func (r *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{r} }

// lineWriter logs each write as information.
type lineWriter struct{ to *raftLog }

func (w lineWriter) Write(p []byte) (int, error) {
	w.to.Info(strings.TrimSpace(string(p)))
	return len(p), nil
}

// maxRepeats bounds what is remembered of lines.
const maxRepeats = 1000

// repeats tells which of many equal lines are logged.
type repeats struct {
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*repeated
}

type repeated struct {
	since    time.Time
	logged   int
	unlogged int
}

// repeat reports whether a line is to be logged, of which burst may be in a minute, and how many like it were not.
func (r *repeats) repeat(key string, burst int) (unlogged int, loud bool) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.seen[key]
	switch {
	case x == nil:
		if r.seen == nil || len(r.seen) >= maxRepeats {
			r.seen = make(map[string]*repeated)
		}
		r.seen[key] = &repeated{since: now, logged: 1}
		return 0, true
	case now.Sub(x.since) >= time.Minute:
		unlogged = x.unlogged
		*x = repeated{since: now, logged: 1}
		return unlogged, true
	case x.logged < burst:
		x.logged++
		return 0, true
	}
	x.unlogged++
	return 0, false
}
