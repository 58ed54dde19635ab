package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"hostmesh/lbd/mysqlha"
)

// dbKilled are changes of the primary of which the agent that makes them is killed after each step in turn: another finishes them.
func dbKilled() []dbFault {
	quick := map[string]bool{"failover: its agent killed after depose": true, "switchover: its agent killed after refuse": true}
	var out []dbFault
	for _, kind := range []mysqlha.Kind{mysqlha.Failover, mysqlha.Switchover} {
		for _, step := range mysqlha.Steps(kind) {
			f := dbFault{name: fmt.Sprintf("%s: its agent killed after %s", kind, step)}
			f.more = !quick[f.name]
			switch kind {
			case mysqlha.Failover:
				f.breaks = func(s *dbSite, primary string) {
					s.killsAfter(kind, step, func(func() bool) { s.signals(primary, syscall.SIGKILL) })
				}
			case mysqlha.Switchover:
				f.either, f.planned = true, true
				f.breaks = func(s *dbSite, primary string) {
					s.keepsUp()
					s.killsAfter(kind, step, func(again func() bool) {
						asked := s.running()[0]
						if asked == s.watcher() {
							asked = s.running()[1]
						}
						done := make(chan string, 1)
						go func() {
							for { // what a machine that is busy does not do in time is not begun, or taken back
								out, errs, code := asked.hostmesh("mysql", "switchover", shopTag)
								if code == 0 || !again() {
									done <- fmt.Sprintf("%d %s%s", code, out, errs)
									return
								}
								s.t.Logf("    it is asked for again: %d %s%s", code, out, strings.TrimSpace(errs))
								time.Sleep(100 * time.Millisecond)
							}
						}()
						s.undo = append(s.undo, func() { s.t.Logf("    the switchover that was asked for said: %s", strings.TrimSpace(<-done)) })
					})
				}
			}
			out = append(out, f)
		}
	}
	return out
}

// killsAfter begins a change of the primary, and kills the agent that makes it as soon as that says that a step is done. Until then again, which begin is given, is true.
func (s *dbSite) killsAfter(kind mysqlha.Kind, step mysqlha.Step, begin func(again func() bool)) {
	t := s.t
	t.Helper()
	if !s.five {
		s.watches("box4") // its agent is beside nobody who could be chosen
	}
	w := s.watcher()
	log, err := os.Open(w.logFile())
	if err == nil {
		defer log.Close()
		_, err = log.Seek(0, 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	defer over.Store(true)
	begin(func() bool { return !over.Load() })
	want := fmt.Sprintf("kind=%s step=%s ", kind, step)
	var rest string // of a line that is not whole yet
	chunk := make([]byte, 64<<10)
	for limit, done := time.Now().Add(dbPatience), false; !done; {
		n, err := log.Read(chunk)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		lines := strings.Split(rest+string(chunk[:n]), "\n")
		rest = lines[len(lines)-1]
		done = slices.ContainsFunc(lines[:len(lines)-1], func(line string) bool {
			return strings.Contains(line, `msg="a step of a change of the primary is done"`) && strings.Contains(line, want)
		})
		if time.Now().After(limit) {
			t.Fatalf("%s makes no %s, or not to the step %s\n%s", w.name, kind, step, s.told())
		}
		if n == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	over.Store(true)
	w.kill()
	s.undo = append(s.undo, func() {
		if !w.running() {
			w.start()
		}
	})
	if c, err := s.cluster(); err == nil && c.Record.Intent != nil {
		t.Logf("    %s was killed after %s, at %s", w.name, step, c.Record.Intent.Step)
	}
	if s.five { // the chosen one may be beside it: it is started again, as systemd would
		s.await("another watches", func() error {
			if now := s.watcher(); now == w {
				return errors.New("it is still said to be " + w.name)
			}
			return nil
		})
		w.start()
	}
}
