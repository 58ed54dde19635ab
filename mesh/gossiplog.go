package mesh

import (
	"context"
	"log"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// gossipLog turns what serf and memberlist log into slog records. They are talkative, and a sick network makes them
// repeat one line many times a second: the same line (but for its numbers) is logged once a minute. Lines which say that
// a peer holds another key become refusals, and those which say that a node id is there twice are counted.
type gossipLog struct {
	log    *slog.Logger
	refuse *refusals
	clones *conflicts
	now    func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*repeated
}

type repeated struct {
	since time.Time
	count int
}

func newGossipLogger(l *slog.Logger, r *refusals, c *conflicts, now func() time.Time) *log.Logger {
	return log.New(&gossipLog{log: l, refuse: r, clones: c, now: now, seen: make(map[string]*repeated)}, "", 0)
}

// Write takes one line. It never fails.
func (g *gossipLog) Write(p []byte) (int, error) {
	level, text := parseGossipLine(string(p))
	if addr, reason, ok := gossipRefusal(text); ok {
		if reason == "" {
			g.refuse.noise(addr, errNoLabel)
		} else {
			g.refuse.refuse(addr, reason)
		}
		return len(p), nil
	}
	if c, ok := gossipConflict(text); ok {
		g.clones.add(c)
		return len(p), nil
	}
	if strings.Contains(text, "Name conflict for ") || strings.Contains(text, "Node name conflicts with ") {
		return len(p), nil // serf's words for what memberlist said a moment ago
	}
	// What they call information is about members, and is told by our own events.
	if level < slog.LevelWarn {
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !g.log.Enabled(ctx, level) {
		return len(p), nil
	}
	if level >= slog.LevelWarn {
		n, loud := g.repeat(text)
		if !loud {
			return len(p), nil
		}
		if n > 0 {
			g.log.Log(ctx, slog.LevelWarn, "gossip", "text", text, "unlogged", n)
			return len(p), nil
		}
		level = slog.LevelWarn // their errors are mostly a peer's trouble
	}
	g.log.Log(ctx, level, "gossip", "text", text)
	return len(p), nil
}

// repeat reports whether a line is to be logged, and how many like it were not.
func (g *gossipLog) repeat(text string) (unlogged int, loud bool) {
	key := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '0'
		}
		return r
	}, text)
	if len(key) > 60 {
		key = key[:60] // what differs mostly stands behind
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.seen[key]; r != nil {
		if now.Sub(r.since) < time.Minute {
			r.count++
			return 0, false
		}
		n := r.count
		*r = repeated{since: now}
		return n, true
	}
	if len(g.seen) >= maxRemembered {
		clear(g.seen)
	}
	g.seen[key] = &repeated{since: now}
	return 0, true
}

// parseGossipLine takes the level off a line like "[WARN] memberlist: text".
func parseGossipLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelInfo
	for prefix, l := range map[string]slog.Level{
		"[DEBUG] ": slog.LevelDebug, "[INFO] ": slog.LevelInfo, "[WARN] ": slog.LevelWarn, "[ERR] ": slog.LevelError, "[ERROR] ": slog.LevelError,
	} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			level, line = l, rest
			break
		}
	}
	return level, line
}

// gossipRefusal recognises the lines in which memberlist says that a peer's key or label is not ours. An empty reason
// means that there was no label at all, or not all of a message: a port scanner, or a serf of somebody else.
func gossipRefusal(text string) (addr netip.AddrPort, reason string, ok bool) {
	switch {
	case strings.Contains(text, `unacceptable label ""`), strings.Contains(text, "label header"), strings.Contains(text, "cannot decode label"),
		strings.Contains(text, "UDP packet too short"):
	case strings.Contains(text, "unacceptable label"),
		strings.Contains(text, "Decrypt packet failed"),
		strings.Contains(text, "No installed keys could decrypt"),
		strings.Contains(text, "remote state is not encrypted"):
		reason = refuseKey
	case strings.Contains(text, "memberlist: failed to receive: "):
	default:
		return addr, "", false
	}
	_, from, found := strings.Cut(text, "from=")
	if !found {
		return addr, "", false
	}
	from, _, _ = strings.Cut(from, " ")
	addr, err := netip.ParseAddrPort(from)
	return addr, reason, err == nil
}
