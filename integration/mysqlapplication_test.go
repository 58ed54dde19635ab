package integration

import (
	"bufio"
	_ "embed" // the application
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

//go:embed testdata/application.py
var applicationText string

// serves has an application of a kind that is common, with a pool of connections and a driver that others wrote, which know nothing of clusters, write through the address of the primary
// while that changes, by plan and by kill -9 in turn. It is one process all the time, whose pool connects again. Each row that it said was written is there in the end.
func (s *dbSite) serves(changes int) {
	t := s.t
	t.Helper()
	primary := s.settles()
	for _, db := range s.dbs { // an account of its own, which knows nothing of certificates
		db.Exec("SET sql_log_bin=0", "CREATE OR REPLACE USER bench@'10.77.0.%' IDENTIFIED BY 'bench'", "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER ON shop.* TO bench@'10.77.0.%'")
	}
	c := s.application()
	defer c.end()
	c.writes(2)
	from, worst := time.Now(), time.Duration(0)
	for i := range changes {
		how := "switchover"
		began := time.Now()
		if i%2 == 0 {
			s.keepsUp()
			s.switches()
		} else {
			how = "kill -9"
			s.cli(s.boxes[4], "ack", shopTag, "-m", "seen") // another within the hour
			before, err := s.cluster()
			if err != nil {
				t.Fatal(err)
			}
			s.signals(primary, syscall.SIGKILL)
			s.await("another takes writes", func() error {
				if c, err := s.cluster(); err != nil || c.Record.Epoch == before.Record.Epoch || c.Record.Intent != nil {
					return fmt.Errorf("%w: %v", errNotYet, err)
				}
				return nil
			})
		}
		c.writes(2)
		gap := c.gap(began)
		worst = max(worst, gap)
		t.Logf("%s %d: the application wrote nothing for %d ms", how, i+1, gap.Milliseconds())
		primary = s.settles()
	}
	c.end()
	_, text := s.writes.gap(from)
	s.reports(fmt.Sprintf("%d changes beside an application", changes), worst, text)
	s.writes.holds(primary)
	if len(c.done) < changes {
		t.Errorf("the application wrote %d rows", len(c.done))
	}
	for _, w := range c.done {
		if s.dbs[primary].Text("SELECT 1 FROM shop.applied WHERE id = ?", w.id) != "1" {
			t.Errorf("the application was told that row %d is written, and %s has it not", w.id, primary)
		}
	}
}

// application is a running one.
type application struct {
	s    *dbSite
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
	wg   sync.WaitGroup
	once sync.Once

	mu     sync.Mutex // guards the fields below
	done   []applied
	errors []string
}

// applied is a row that it said was written.
type applied struct {
	at time.Time
	id int64
}

func (s *dbSite) application() *application {
	c := &application{s: s, cmd: exec.Command("ip", "netns", "exec", "c1", "/usr/bin/python3", "-c", applicationText, writeVIP.String()), over: make(chan struct{})}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	var errs io.ReadCloser
	if err == nil {
		errs, err = c.cmd.StderrPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	c.wg.Go(func() {
		defer close(c.over)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if id, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				c.mu.Lock()
				c.done = append(c.done, applied{time.Now(), id})
				c.mu.Unlock()
			}
		}
	})
	c.wg.Go(func() {
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			c.mu.Lock()
			c.errors = append(c.errors, lines.Text())
			c.mu.Unlock()
		}
	})
	return c
}

// writes waits until it has written more rows.
func (c *application) writes(n int) {
	c.s.t.Helper()
	count := func() (int, []string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.done), slices.Clone(c.errors[max(0, len(c.errors)-3):])
	}
	before, _ := count()
	c.s.await("the application writes", func() error {
		now, errs := count()
		select {
		case <-c.over:
			c.s.t.Fatalf("the application has ended: %q", errs)
		default:
		}
		if now < before+n {
			return fmt.Errorf("it has written %d rows, and says %q", now, errs)
		}
		return nil
	})
}

// gap is the longest time in which it wrote nothing since a moment.
func (c *application) gap(from time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.done {
		if w.at.After(from) {
			longest, from = max(longest, w.at.Sub(from)), w.at
		}
	}
	return longest
}

// end ends it; once is enough.
func (c *application) end() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill() // it may wait for a server
		c.wg.Wait()
		_ = c.cmd.Wait()
	})
}
