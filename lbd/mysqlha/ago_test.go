package mysqlha

import (
	"strings"
	"testing"
	"time"
)

// A clock that was set back makes no hour of what it says nothing of, and whoever reads it is told.
func TestAFailoverAheadOfTheClock(t *testing.T) {
	for since, want := range map[time.Duration]string{20 * time.Minute: "was 20m0s ago", -time.Second: "was 0s ago", -26 * time.Hour: "26h0m0s ahead of this node's clock", time.Hour: ""} {
		x := healthySeen()
		x.c.Record.LastFailover = now.Add(-since)
		if why := refuses(&x.c, &x.o); !strings.Contains(why, want) || (why == "") != (want == "") {
			t.Errorf("%s after the last failover: %q; want %q", since, why, want)
		}
	}
}
