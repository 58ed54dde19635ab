package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

func TestNotify(t *testing.T) {
	path := filepath.Join(shortDir(t), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}
	n := newNotifier(func(k string) string { return env[k] })
	if n.watchdog != 2*time.Millisecond {
		t.Errorf("watchdog %v", n.watchdog)
	}
	read := func() string {
		t.Helper()
		b := make([]byte, 100)
		if err := systemd.SetReadDeadline(time.Now().Add(eventually)); err != nil {
			t.Fatal(err)
		}
		k, err := systemd.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:k])
	}
	if err := n.send("READY=1"); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "READY=1" {
		t.Errorf("systemd heard %q", got)
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var asked atomic.Int32
	go func() {
		defer close(done)
		n.keepAlive(ctx, func() bool { return asked.Add(1) > 3 })
	}()
	if got := read(); got != "WATCHDOG=1" || asked.Load() < 4 {
		t.Errorf("systemd heard %q after %d questions, of which three were denied", got, asked.Load())
	}
	cancel()
	<-done
}

func TestNotifyNobody(t *testing.T) {
	n := newNotifier(func(string) string { return "" })
	if err := n.send("READY=1"); err != nil {
		t.Error(err)
	}
	n.keepAlive(t.Context(), func() bool { t.Error("asked"); return true }) // returns at once
	other := newNotifier(func(k string) string {
		return map[string]string{"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}[k]
	})
	if other.watchdog != 0 {
		t.Error("another process's watchdog is fed")
	}
	if err := (notifier{socket: filepath.Join(t.TempDir(), "none")}).send("READY=1"); err == nil {
		t.Error("no error without a listener")
	}
}
