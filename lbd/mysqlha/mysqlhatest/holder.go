package mysqlhatest

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"hostmesh/hostdb/section"
	"hostmesh/lbd/mysqlha"
)

// Section is one that fails over by itself.
func (w *World) Section() section.MySQL {
	s := section.MySQL{VIP: netip.MustParseAddr("192.0.2.60"), MaxLag: 5e9, Durability: section.Strict, Failover: section.Auto, Credentials: "shop"}
	if !w.Strict {
		s.Durability = section.Available
	}
	return s
}

// Holder is a node that has the duty of the cluster.
type Holder struct {
	*mysqlha.Watch
	Fence  uint64
	w      *World
	cancel context.CancelFunc
	done   chan struct{}
	stale  atomic.Bool
}

// Hold gives the duty to a node, which begins at once. The former holder's grant has ended; it is not stopped.
func (w *World) Hold(node string, mysql func() section.MySQL, members func() []mysqlha.Member, log *slog.Logger) *Holder {
	h := &Holder{Fence: w.Grant(), w: w, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(w.ctx)
	h.cancel = cancel
	if mysql == nil {
		mysql = w.Section
	}
	if members == nil {
		members = w.Members
	}
	h.Watch = mysqlha.NewWatch(mysqlha.WatchConfig{
		Tag: w.Tag, World: w.At(node), Records: w.RecordsAt(node, h.Fence), Fence: h.Fence, Valid: h.valid, Logger: log,
		Scene: func() mysqlha.Scene {
			known := map[string]mysqlha.Member{}
			for _, m := range w.Members() {
				known[m.Host] = m
			}
			return mysqlha.Scene{MySQL: mysql(), Members: members(), Known: known, Agents: w.Agents(node)}
		},
	})
	w.wg.Go(func() {
		defer close(h.done)
		_ = h.Run(ctx) // it ends with its context
	})
	return h
}

func (h *Holder) valid() bool { return h.stale.Load() || h.w.Granted(h.Fence) }

// BelieveStill has the holder take its grant for valid, whatever became of it: a clock that stood still.
func (h *Holder) BelieveStill() { h.stale.Store(true) }

// Kill ends it where it is. It returns when it is gone.
func (h *Holder) Kill() {
	h.cancel()
	<-h.done
}

// End ends it, and does not wait.
func (h *Holder) End() { h.cancel() }
