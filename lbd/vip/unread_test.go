package vip_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"hostmesh/lbd/vip"
	"hostmesh/lbd/vip/viptest"
)

// TestUnreadClaims: a file of claims that cannot be read stops nobody. Nothing is claimed until a person has dealt with it, it stays as it is, what
// the caller calls virtual goes, and afterwards all goes on by itself.
func TestUnreadClaims(t *testing.T) {
	left, named, next := netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.101"), netip.MustParseAddr("10.0.0.102")
	removed := func(t *testing.T, file string) {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
	}
	mended := func(t *testing.T, file string) {
		removed(t, file)
		if err := os.WriteFile(file, []byte(`{"version":1,"addresses":["10.0.0.100"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, text, says string
		deal             func(t *testing.T, file string)
		stays            bool // what was left by a former process
	}{
		{"half of it, which is removed", `{"version":1,"addr`, "unexpected end", removed, true},
		{"half of it, which is mended", `{"version":1,"addr`, "unexpected end", mended, false},
		{"of a later version", `{"version":7,"addresses":{}}`, "cannot unmarshal", removed, true},
		{"of a later version, alike", `{"version":7,"addresses":[]}`, "version 7, and this build knows 1", mended, false},
		{"no text", "\x00\x00\x00", "invalid character", removed, true},
		{"empty", "", "unexpected end", removed, true},
		{"a directory", "/", "is a directory", mended, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, "vips.json")
				var err error
				if c.text == "/" {
					err = os.Mkdir(file, 0o700)
				} else {
					err = os.WriteFile(file, []byte(c.text), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				box := viptest.NewSegment(1).Box(netip.MustParsePrefix("10.0.0.1/24"))
				box.Take(netip.PrefixFrom(left, 32), true)
				box.Take(netip.PrefixFrom(named, 32), true)
				table, err := vip.Open(vip.Config{Dir: dir, Kernel: box, Announcer: box, Clock: clock{time.Now()}, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				metrics := prometheus.NewRegistry()
				metrics.MustRegister(table.Collector())
				ready := func(want float64) {
					t.Helper()
					all, err := metrics.Gather()
					i := slices.IndexFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "hostmesh_vip_ready" })
					if err != nil || i < 0 || all[i].Metric[0].Gauge.GetValue() != want {
						t.Errorf("hostmesh_vip_ready is not %v: %v", want, err)
					}
				}
				l := viptest.NewLease()
				defer l.Keep()()
				claim := vip.Claim{Addr: next, Owner: "lb/x", Lease: l}
				h, err := table.Claim(t.Context(), claim)
				for what, err := range map[string]error{"claim": err, "check": table.Check(), "unread": table.Unread()} {
					if !errors.Is(err, vip.ErrUnread) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if h != nil || len(table.Claims()) > 0 {
					t.Error("it is claimed all the same")
				}
				ready(0)
				if gone, err := table.Clean([]netip.Addr{named}); err != nil || len(gone) != 1 || box.Has(named) || !box.Has(left) {
					t.Errorf("clean: %v, %v", gone, err)
				}
				if text, err := os.ReadFile(file); c.text != "/" && (err != nil || string(text) != c.text) {
					t.Errorf("the file is %q: %v", text, err)
				}

				c.deal(t, file)
				if err := table.Check(); err != nil || box.Has(left) != c.stays {
					t.Errorf("dealt with: %v; what was left is here: %t", err, box.Has(left))
				}
				ready(1)
				if h, err = table.Claim(t.Context(), claim); err != nil {
					t.Fatal(err)
				}
				if err := h.Wait(t.Context()); err != nil || !box.Has(next) {
					t.Errorf("claimed: %v", err)
				}
				if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), next.String()) || strings.Contains(string(text), left.String()) {
					t.Errorf("the file is %s: %v", text, err)
				}
				if err := table.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
