package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/credentials"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// TestClusterWorldFollowsAccounts: passwords are changed while somebody watches: connections that are there go on, and new ones are made by the file as it is now.
func TestClusterWorldFollowsAccounts(t *testing.T) {
	server := mariadbtest.Start(t, mariadbtest.Options{Writable: true})
	var mu sync.Mutex
	file, bad := server.Accounts, error(nil)
	w, err := newClusterWorld("box1", nil, hostCalls{}, func() (credentials.File, error) {
		mu.Lock()
		defer mu.Unlock()
		return file, bad
	}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := mysqlha.Member{Host: "db1", Addr: netip.MustParseAddr(server.Addr), Port: server.Port}
	first := w.Server(m)
	if _, err := first.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	held := make(chan error, 1)
	go func() { held <- first.Hold(t.Context()) }()
	server.Await("1", "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO SLEEP%'")
	server.Exec("SET PASSWORD FOR 'hostmesh'@'%' = PASSWORD('another one')")
	if _, err := first.Observe(t.Context()); err != nil {
		t.Errorf("a connection that is there: %v", err)
	}
	if err := w.Server(m).Ping(t.Context()); !errors.Is(err, mysqlha.ErrDenied) {
		t.Errorf("a new one by the former password: %v", err)
	}
	// A file that somebody is writing changes nothing.
	mu.Lock()
	bad = errors.New("line 3: what is that?")
	mu.Unlock()
	time.Sleep(2 * credentialsLook)
	_ = w.Server(m)
	time.Sleep(credentialsLook)
	if w.Server(m) != first {
		t.Error("a file that cannot be read has servers connected to anew")
	}
	mu.Lock()
	bad = nil
	file.Admin.Password = credentials.NewSecret("another one")
	mu.Unlock()
	for end := time.Now().Add(mariadbtest.Patience); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := w.Server(m).Ping(ctx)
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("by the file as it is now: %v", err)
		}
	}
	if _, err := w.Server(m).Observe(t.Context()); err != nil {
		t.Error(err)
	}
	// What was held under the former accounts ends by us, which says nothing of the server.
	select {
	case err := <-held:
		if !errors.Is(err, mysqlha.ErrClosed) {
			t.Errorf("held: %v", err)
		}
	case <-time.After(mariadbtest.Patience):
		t.Error("connections of the former accounts stay for ever")
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
}
