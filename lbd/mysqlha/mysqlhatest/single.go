package mysqlhatest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"hostmesh/lbd/mysqlha"
)

// Single is one server of a world, for the tests of what a Server is.
type Single struct {
	w      *World
	name   string
	server *server
	denied *server
}

// Add adds a server that knows nothing of the others, is read-only and empty.
func (w *World) Add() *Single {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, now := len(w.boxes)+1, time.Now()
	b := &box{
		name: fmt.Sprintf("single%d", n), addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), id: uint32(n), running: true, died: make(chan struct{}), began: now, pid: n,
		readOnly: true, waiting: map[int]chan bool{}, process: mysqlha.ProcessRuns, processAt: now, nft: map[string]bool{}, rules: map[string]bool{}, ioState: "No",
	}
	w.boxes[b.name] = b
	w.sorted = append(w.sorted, b.name)
	as := func(denied bool) *server {
		return &server{w: w, node: "watcher", host: b.name, denied: denied, closed: make(chan struct{})}
	}
	return &Single{w: w, name: b.name, server: as(false), denied: as(true)}
}

// Server speaks to it, Denied with a wrong password.
func (s *Single) Server() mysqlha.Server { return s.server }

// Denied is a Server that is not let in.
func (s *Single) Denied() mysqlha.Server { return s.denied }

// Source is for those who follow it.
func (s *Single) Source() (out mysqlha.Source) {
	s.w.with(s.name, func(b *box) { out = mysqlha.Source{Host: b.addr.String(), Port: 3306, Name: b.name} })
	return out
}

// Kill ends the process, Restart starts it; Freeze stops it, Thaw has it go on.
func (s *Single) Kill() { s.w.Kill(s.name) }

// Restart starts it in a role.
func (s *Single) Restart(as mysqlha.Role) { s.w.with(s.name, func(b *box) { b.begin(as) }) }

// Freeze stops it.
func (s *Single) Freeze() { s.w.Freeze(s.name, true) }

// Thaw has it go on.
func (s *Single) Thaw() { s.w.Freeze(s.name, false) }

// Insert writes a row as a client.
func (s *Single) Insert(ctx context.Context, id int) error {
	if !s.w.write(ctx, s.name, id, false) {
		return errors.New("the client was not told that it is written")
	}
	return nil
}

// Rows are those that a client reads, sorted.
func (s *Single) Rows(context.Context) (out []int, err error) {
	s.w.with(s.name, func(b *box) {
		for _, t := range b.log {
			if t.committed && t.id != 0 {
				out = append(out, t.id)
			}
		}
	})
	slices.Sort(out)
	return out, nil
}

// Client keeps a connection, and says whether it is there.
func (s *Single) Client() (alive func() bool) {
	c := make(chan struct{})
	s.w.with(s.name, func(b *box) { b.clients = append(b.clients, c) })
	return func() bool { return !isClosed(c) }
}

// Fill takes all connections.
func (s *Single) Fill() (undo func()) {
	s.w.Saturate(s.name, true)
	return func() { s.w.Saturate(s.name, false) }
}

// PurgeLogs has the binary log forget all.
func (s *Single) PurgeLogs() { s.w.PurgeLogs(s.name) }
