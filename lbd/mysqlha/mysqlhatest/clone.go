package mysqlhatest

import (
	"context"
	"fmt"
	"time"

	"hostmesh/lbd/mysqlha"
)

// Clone implements mysqlha.Local.
func (l *local) Clone(ctx context.Context, o mysqlha.Order, from string, progress func(mysqlha.CloneProgress)) (string, error) {
	err := l.tell(ctx, "clone", &o, func(b *box) error {
		if err := b.runs(o); err != nil {
			return err
		}
		if l.w.boxes[from] == nil || from == l.host {
			return fmt.Errorf("%s: clone from %s: no other host of that name has a server of the cluster", l.host, from)
		}
		if src := l.w.boxes[from]; src.copy != nil {
			return fmt.Errorf("%s: clone from %s, which is itself a copy that nobody has compared", l.host, from)
		} else if src.lends > 0 {
			return fmt.Errorf("%s: clone from %s: %w", l.host, from, mysqlha.ErrBusy)
		} else if b.cloning {
			return fmt.Errorf("%s: clone from %s: %w", l.host, from, mysqlha.ErrBusy)
		}
		b.cloning = true
		b.end(mysqlha.ProcessStopped, "its data is replaced")
		b.unlogged, b.inherited = 0, nil
		b.relay, b.source, b.log, b.lasts, b.copy = nil, "", nil, nil, &mysqlha.Unverified{From: from}
		l.w.boxes[from].lends++
		return nil
	})
	if err != nil {
		return "", err
	}
	type end struct {
		position string
		err      error
	}
	ended := make(chan end, 1)
	go func() { // the host goes on when whoever asked for it is gone
		position, err := l.copies(l.w.ctx, from, func(p mysqlha.CloneProgress) {
			if progress != nil && ctx.Err() == nil {
				progress(p)
			}
		})
		ended <- end{position, err}
	}()
	select {
	case e := <-ended:
		return e.position, e.err
	case <-ctx.Done():
		return "", fmt.Errorf("agent of %s: %w: %w", l.host, mysqlha.ErrUnreachable, context.Cause(ctx))
	}
}

// copies makes the copy that was begun.
func (l *local) copies(ctx context.Context, from string, progress func(mysqlha.CloneProgress)) (string, error) {
	defer l.w.with(from, func(b *box) { b.lends-- })
	defer l.w.with(l.host, func(b *box) { b.cloning = false })
	for i := range 4 {
		progress(mysqlha.CloneProgress{Step: "backup", Bytes: int64(i) << 20, Total: 4 << 20})
		if err := pass(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
	// The real program waits for the end of what is being committed.
	for n := 0; l.w.commits(from); n++ {
		if n == 1200 {
			return "", fmt.Errorf("the copy of %s does not end, for writes wait there to be acknowledged", from)
		}
		if err := pass(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
	pos := ""
	err := l.tell(ctx, "clone", nil, func(b *box) error {
		src := l.w.boxes[from]
		if src == nil || !src.running || src.dead || !l.w.link(from, l.host) {
			return fmt.Errorf("the copy of %s broke off", from)
		}
		b.end(mysqlha.ProcessStopped, "its data is replaced") // somebody may have started what was there
		b.relay, b.source, b.log, b.lasts = nil, "", nil, nil
		for _, t := range src.log {
			if !t.committed {
				break
			}
			b.log = append(b.log, t)
		}
		b.unlogged, b.inherited = len(b.log), nil
		b.marked, b.spoilt, b.tampered = "", false, src.tampered
		b.shut, b.closed = false, false
		b.begin(mysqlha.AsReplica)
		pos = position(b.log)
		return nil
	})
	return pos, err
}

// commits reports whether clients of a server wait for its commit.
func (w *World) commits(host string) (yes bool) {
	w.with(host, func(b *box) { yes = len(b.waiting) > 0 && !b.readOnly })
	return yes
}

// Compared implements mysqlha.Local.
func (l *local) Compared(ctx context.Context, o mysqlha.Order, differs string) error {
	return l.tell(ctx, "compared", &o, func(b *box) error {
		switch {
		case b.copy != nil && differs == "":
			b.copy = nil
		case b.copy != nil:
			b.copy.Differs = differs
		}
		return nil
	})
}
