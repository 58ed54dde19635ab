package vmd_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// leading has one host be the primary of a database cluster, for as long as is says so.
func leading(host string, is *atomic.Bool) func(context.Context, string) string {
	return func(_ context.Context, name string) string {
		if name == host && is.Load() {
			return "it is the primary of the database cluster tags/shop-db: hostmesh mysql switchover shop-db has another take the writes"
		}
		return ""
	}
}

// TestLeadersWait: the entry of a host is deleted that is the primary of a database cluster. Its machine runs on and waits, until it is the primary no more, or a person
// approves; others go at once.
func TestLeadersWait(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, w *world, is *atomic.Bool){
		"until another is the primary": func(_ *testing.T, _ *world, is *atomic.Bool) { is.Store(false) },
		"until somebody approves": func(t *testing.T, w *world, _ *atomic.Bool) {
			if err := vmd.Approve(t.Context(), leases{w.group, "box1", newTripwire(0, false)}, []string{uuidOf(1)}, "alice", time.Now()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var is atomic.Bool
				is.Store(true)
				w := newWorld(t)
				w.leads = leading("db1", &is)
				w.write("hosts/box1", hostsYAML)
				w.open("box1", vmdtest.New(), newTripwire(0, false))
				w.place("elsewhere", newTripwire(0, false))
				w.vm("db1", uuidOf(1), "")
				w.vm("db2", uuidOf(2), "")
				w.until("both run", time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Running && w.phase(uuidOf(2)) == report.Running })
				w.delete("db1")
				w.delete("db2")
				w.until("the replica goes and the primary waits", 5*time.Minute, func() bool {
					return w.phase(uuidOf(1)) == report.Waiting && w.phase(uuidOf(2)) == report.Deleted
				})
				time.Sleep(20 * time.Minute)
				if m, err := w.boxes["box1"].hv.Get(t.Context(), uuidOf(1)); err != nil || m.State != plan.Running {
					t.Fatalf("the primary's machine is %+v, %v", m, err)
				}
				for _, part := range []string{"hosts/db1", "tags/shop-db", "hostmesh mysql switchover shop-db", "hostmesh approve db1"} {
					if why := w.reported(uuidOf(1)).Reason; !strings.Contains(why, part) {
						t.Errorf("reason %q does not say %q", why, part)
					}
				}
				end(t, w, &is)
				w.until("it goes", 5*time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Deleted })
			})
		})
	}
}

// TestLeadersAreNotRebooted: without an override, and with one they are.
func TestLeadersAreNotRebooted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var is atomic.Bool
		is.Store(true)
		w := newWorld(t)
		w.leads = leading("db1", &is)
		w.write("hosts/box1", hostsYAML)
		w.open("box1", vmdtest.New(), newTripwire(0, false))
		w.place("elsewhere", newTripwire(0, false))
		w.vm("db1", uuidOf(1), "")
		w.until("it runs", time.Minute, func() bool { return w.phase(uuidOf(1)) == report.Running })
		reboot := func(override string) error {
			_, err := wire{w.wires, "elsewhere", newTripwire(0, false)}.Call(t.Context(), "box1", vmd.CallReboot, vmd.Encode(vmd.Reboot{UUID: uuidOf(1), Override: override}))
			return err
		}
		err := reboot("")
		var coded interface{ ErrorCode() string }
		if !errors.As(err, &coded) || coded.ErrorCode() != vmd.CodeProtected || !strings.Contains(err.Error(), "hostmesh mysql switchover shop-db") {
			t.Errorf("a primary is rebooted: %v", err)
		}
		if err := reboot("its kernel hangs"); err != nil {
			t.Errorf("with an override: %v", err)
		}
		is.Store(false)
		if err := reboot(""); err != nil {
			t.Errorf("a replica: %v", err)
		}
	})
}
