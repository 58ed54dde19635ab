package local

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hostmesh/lbd/mysqlha"
	"hostmesh/lbd/mysqlha/mariadbtest"
)

// sameLedger waits until all boxes have the same rows; nobody writes.
func (c *cluster) sameLedger(what string) {
	c.t.Helper()
	var sums []string
	c.settles(what+": all have the same rows", func() bool {
		sums = nil
		for _, b := range c.boxes[1:] {
			var name, sum string
			if b.server.Root().QueryRow("CHECKSUM TABLE shop.ledger EXTENDED").Scan(&name, &sum) != nil {
				return false
			}
			sums = append(sums, sum)
		}
		for _, s := range sums {
			if s != sums[0] {
				return false
			}
		}
		return true
	})
}

// said are the events of the record's history that have a text.
func (c *cluster) said(text string) (out []string) {
	for _, e := range c.rec().History {
		if strings.Contains(e.What, text) {
			out = append(out, e.What)
		}
	}
	return out
}

// TestCopiesAreCompared: under constant writes a right copy is compared and counts, and one in which somebody changed a row before it was compared is found, and does not; made anew it counts.
func TestCopiesAreCompared(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	c := newCluster(t, 3)
	// More than are compared from each end, in one table; one without a key, and one that is not InnoDB's.
	c.boxes[1].server.Exec("USE shop", "CREATE TABLE shop.large (i INT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB", "INSERT INTO shop.large SELECT seq, seq FROM seq_1_to_50000",
		"CREATE TABLE shop.keyless (i INT) ENGINE=InnoDB", "CREATE TABLE shop.half (i INT PRIMARY KEY) ENGINE=Aria")
	b := c.boxes[3]
	was, once := b.edit, sync.Once{}
	b.edit = func(cfg *Config) {
		was(cfg)
		cfg.point = func(at string) {
			if at == pointServed {
				once.Do(func() {
					b.server.Exec("SET sql_log_bin=0", "UPDATE shop.large SET v = 'other' WHERE i = 49999")
				})
			}
		}
	}
	b.reopen()
	w, end := c.hold()
	defer end()
	stop := c.write()
	defer stop()
	state := func(b *box) *mysqlha.Unverified { return b.state().Copy }
	c.settles("one copy counts, and the other differs", func() bool {
		u := state(b)
		return u != nil && u.Differs != "" && len(c.rec().Starts) == 1 && state(c.boxes[2]) == nil
	})
	u := state(b)
	t.Logf("it is said: %s", u.Differs)
	if !strings.HasPrefix(u.Differs, "shop.large is 50000:") || strings.Contains(u.Differs, "shop.ledger") || strings.Count(u.Differs, "(0-1-") != 2 {
		t.Errorf("it is said: %s", u.Differs)
	}
	c.settles("it is diagnosed", func() bool {
		for _, d := range w.Picture().Diagnoses {
			if d.Name == mysqlha.CopyDiffers && d.Host == b.name() {
				return true
			}
		}
		return false
	})
	c.settles("the history says both", func() bool { return len(c.said("was found right")) == 1 && len(c.said("differs from")) == 1 })
	time.Sleep(2 * time.Second) // nothing happens, which takes time
	if r := c.rec(); len(r.Ackers) != 1 || r.Ackers[0] != c.boxes[2].name() {
		t.Errorf("who counts: %v", r.Ackers)
	}
	if _, err := (PeerDonors{c}).OpenDonor(t.Context(), b.name(), mysqlha.Order{Tag: tag, Epoch: 1, Fence: 1}, []string{MethodBackup}); err == nil || !strings.Contains(err.Error(), "nobody has found right") {
		t.Errorf("a copy of it: %v", err)
	}
	if _, err := w.Clone(t.Context(), "", b.name(), "a test"); err != nil {
		t.Fatal(err)
	}
	c.whole("the copy was made anew")
	if u := state(b); u != nil {
		t.Errorf("it counts, and is remembered as %+v", u)
	}
	stop()
	c.sameLedger("the copy was made anew")
}

// TestRejoinsWithoutACopy: primaries that are killed under load have dropped what others have, and rejoin without a copy, with the same rows as all others.
func TestRejoinsWithoutACopy(t *testing.T) {
	if !mariadbtest.InNamespaces(t) {
		return
	}
	c := newCluster(t, 3)
	w, end := c.hold()
	defer end()
	stop := c.write()
	c.whole("two new members")
	stop()
	back := 0
	for i := range 4 {
		busy := c.crowd(16)
		stop := c.write()
		old := c.boxes[c.index(c.rec().Primary)]
		time.Sleep(500 * time.Millisecond)
		old.signal(syscall.SIGKILL)
		what := fmt.Sprintf("kill %d, of %s", i+1, old.name())
		c.settles(what+": another is promoted", func() bool { return c.rec().Primary != old.name() })
		c.settles(what+": it rejoined", func() bool {
			for _, e := range c.rec().History[:min(len(c.rec().History), 4)] {
				if strings.HasPrefix(e.What, old.name()+" rejoined without a copy") || strings.HasPrefix(e.What, old.name()+" cannot rejoin") {
					t.Logf("%s: %s", what, e.What)
					if strings.Contains(e.What, "taken back") {
						back++
					}
					return true
				}
			}
			return false
		})
		busy()
		c.whole(what)
		stop()
		c.sameLedger(what)
		if copies := c.said("cannot rejoin"); len(copies) > 0 {
			t.Fatalf("%s: %q", what, copies)
		}
		c.acked(w)
	}
	t.Logf("%d of 4 had dropped what others have, and took it back", back)
}

// crowd has more clients write at the address, without a pause: so that some always wait for an acknowledgement.
func (c *cluster) crowd(n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	dbs := make([]*sql.DB, len(c.boxes))
	for i, b := range c.boxes {
		if b != nil {
			dbs[i] = b.server.Client("app", "app", "shop", false, time.Second)
			dbs[i].SetMaxIdleConns(n)
		}
	}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := c.address()
				if i == 0 {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				id := c.nextID.Add(1)
				one, done := context.WithTimeout(ctx, time.Second)
				_, err := dbs[i].ExecContext(one, fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'crowd')", id))
				done()
				if err == nil {
					c.mu.Lock()
					c.told[id] = "crowd"
					c.mu.Unlock()
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
