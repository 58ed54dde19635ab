package auth

import (
	"net/netip"
	"runtime"
	"testing"
)

// A wrong password costs an argon2id whoever it is tried for, so that time does not tell which names are there.
func TestWrongPasswordsCostTheSame(t *testing.T) {
	a := open(t, "alice: {password: "+md5Secret+", allow: [10.0.0.0/8]}\n", testKey, nil)
	for _, name := range []string{"alice", "nobody"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := a.Login(t.Context(), name, "wrong", netip.MustParseAddr("10.1.0.1")); err == nil {
			t.Fatalf("%s: logged in", name)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took < argonMemory<<10 {
			t.Errorf("%s: %d bytes of work, an argon2id takes %d", name, took, argonMemory<<10)
		}
	}
}
