package dutybox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a running child, seen from who started it. Its methods are safe for concurrent use.
type Process struct {
	Config Config

	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{}
	read  chan struct{} // closed when all that it told is heard

	mu      sync.Mutex // guards the fields below
	next    int
	waiting map[int]chan Event
}

// Start starts a child: cmd runs a program that calls Child. What it tells is handed to hear, one event after the other.
func Start(cmd *exec.Cmd, cfg Config, hear func(Event)) (*Process, error) {
	p := &Process{Config: cfg, cmd: cmd, ended: make(chan struct{}), read: make(chan struct{}), waiting: map[int]chan Event{}}
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// It ends with its standard input; but one that is stopped does not read.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go p.hear(out, hear)
	go func() {
		<-p.read // Wait closes the pipe
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, p.tell(cfg)
}

func (p *Process) hear(out io.Reader, hear func(Event)) {
	defer close(p.read)
	r := bufio.NewReaderSize(out, 1<<16)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return // a line that is not whole was being written when it was killed
		}
		var e Event
		if json.Unmarshal(line, &e) != nil {
			continue // likewise
		}
		if e.ID > 0 {
			p.mu.Lock()
			c := p.waiting[e.ID]
			delete(p.waiting, e.ID)
			p.mu.Unlock()
			if c != nil {
				c <- e
			}
			continue
		}
		hear(e)
	}
}

func (p *Process) tell(what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.in.Write(append(line, '\n'))
	return err
}

// ErrEnded is returned by Do when the process ends before it answers.
var ErrEnded = errors.New("the process ended")

// Do has a command carried out, and waits for the answer. Its error is the process's, or ErrEnded.
func (p *Process) Do(ctx context.Context, cmd Command) (Event, error) {
	answer := make(chan Event, 1)
	p.mu.Lock()
	p.next++
	cmd.ID = p.next
	p.waiting[cmd.ID] = answer
	p.mu.Unlock()
	if err := p.tell(cmd); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrEnded, err)
	}
	select {
	case e := <-answer:
		if e.Error != "" {
			return e, errors.New(e.Error)
		}
		return e, nil
	case <-p.ended:
		return Event{}, ErrEnded
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

// Kill ends the process as a power cut would, and returns when it is gone and all that it told was heard.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

// Quit ends the process in order; when it does not end in time it is killed.
func (p *Process) Quit(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := p.Do(ctx, Command{Quit: true})
	if err == nil || errors.Is(err, ErrEnded) {
		err = nil
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		err = errors.Join(err, errors.New("it does not end when it is told to"))
		p.Kill()
	}
	_ = p.in.Close()
	return err
}

// Signal sends a signal, such as SIGSTOP.
func (p *Process) Signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Exit is how it ended, for people.
func (p *Process) Exit() string { return p.cmd.ProcessState.String() }
