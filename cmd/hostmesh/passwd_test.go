package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what a person at it sees and types.
type terminal struct {
	t              *testing.T
	person, device *os.File

	mu   sync.Mutex // guards seen
	seen bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	tty := &terminal{t: t, person: person, device: device}
	go func() {
		buf := make([]byte, 1024)
		for {
			n, err := person.Read(buf)
			tty.mu.Lock()
			tty.seen.Write(buf[:n])
			tty.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return tty
}

func (tty *terminal) screen() string {
	tty.mu.Lock()
	defer tty.mu.Unlock()
	return tty.seen.String()
}

// answer types a line once the prompt is there.
func (tty *terminal) answer(prompt, line string) {
	tty.t.Helper()
	for end := time.Now().Add(patience); !strings.HasSuffix(tty.screen(), prompt); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tty.t.Fatalf("no prompt %q: %q", prompt, tty.screen())
		}
	}
	if _, err := tty.person.WriteString(line); err != nil {
		tty.t.Fatal(err)
	}
}

// shows reports whether the terminal shows what is typed.
func (tty *terminal) shows() bool {
	tty.t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.device.Fd()), unix.TCGETS)
	if err != nil {
		tty.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func TestPasswdOnTerminal(t *testing.T) {
	for _, c := range []struct {
		name, first, second string
		code                int
		says                string
	}{
		{"twice the same", "correct horse\n", "correct horse\n", exitDone, ""},
		{"two that differ", "correct horse\n", "correct house\n", exitFailed, "differ"},
		{"none", "\n", "\n", exitFailed, "it is empty"},
		{"the end instead", "correct horse\n", "\x04", exitFailed, "no password was given"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tty := newTerminal(t)
			var out bytes.Buffer
			code := make(chan int, 1)
			go func() { code <- run(context.Background(), []string{"passwd"}, nil, tty.device, &out, tty.device) }()
			tty.answer("Password: ", c.first)
			tty.answer("The same again: ", c.second)
			if got := <-code; got != c.code {
				t.Errorf("exit code %d, want %d: %q", got, c.code, tty.screen())
			}
			if hashed := strings.HasPrefix(out.String(), "$argon2id$"); hashed != (c.code == exitDone) {
				t.Errorf("it printed %q", &out)
			}
			// Everything that was written to the terminal is there once this is.
			fmt.Fprint(tty.device, "end of the test")
			tty.answer("end of the test", "")
			if s := tty.screen(); strings.Contains(s, "correct") || !strings.Contains(s, c.says) || !tty.shows() {
				t.Errorf("the person sees %q, shows input again: %v", s, tty.shows())
			}
		})
	}
}

// Whoever interrupts it gets back a terminal that shows what is typed.
func TestPasswdInterrupted(t *testing.T) {
	tty := newTerminal(t)
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"passwd"}, nil, tty.device, &bytes.Buffer{}, tty.device) }()
	tty.answer("Password: ", "")
	if tty.shows() {
		t.Error("the password would be shown")
	}
	interrupt()
	if got := <-code; got != exitFailed || !tty.shows() {
		t.Errorf("exit code %d, shows input again: %v", got, tty.shows())
	}
	tty.answer("", "\n") // ends the read that is still under way
}
