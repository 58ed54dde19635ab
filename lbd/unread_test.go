package lbd

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/lbd/vip"
)

// TestUnreadClaims: a node whose file of claims cannot be read offers itself for no address and says why, keeps its box clean of what HostDB names, and
// goes on when a person has dealt with the file.
func TestUnreadClaims(t *testing.T) {
	inBench(t, nil, func(b *bench) {
		dir := t.TempDir()
		file := filepath.Join(dir, "vips.json")
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		table, err := vip.Open(vip.Config{Dir: dir, Kernel: b.kernel, Announcer: b.box, Clock: virtualClock{time.Now()}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := table.Close(); err != nil {
				t.Error(err)
			}
		}()
		b.mu.Lock()
		b.d.cfg.Addresses, b.d.fit.cfg.Addresses, b.patient = table, table, true
		b.mu.Unlock()
		b.box.Take(netip.PrefixFrom(vip1, 32), true)
		b.write(balanced)
		b.until("what somebody left goes", func() bool { return !b.here() })
		time.Sleep(time.Minute)
		b.mu.Lock()
		if b.offered || !strings.Contains(b.declined["lb/10.0.0.100"], file) {
			t.Errorf("it offers itself: %v, or says %q", b.offered, b.declined)
		}
		b.mu.Unlock()
		if v := b.d.State().VIPs[0]; !v.Lacking || !strings.Contains(v.Refusal, file) {
			t.Errorf("%+v", v)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		b.until("it offers itself", func() bool {
			time.Sleep(time.Second)
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.offered
		})
	})
}
