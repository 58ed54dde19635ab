package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hostmesh/integration/dutybox"
	"hostmesh/integration/wires"
)

// box is a place for one process, which is kept running unless a fault wants it dead.
type box struct {
	*wires.Box
	p    *proof
	i    int
	disk wires.Disk
	wake chan struct{}

	mu      sync.Mutex // guards the fields below
	node    string     // id; another one when the box was replaced
	life    int        // how often it was
	starts  int        // of this life's process
	wanted  bool
	running *dutybox.Process // nil while none runs
	state   dutybox.State
	sick    time.Time // its disk was full until then, or is: it may end by itself
}

func (p *proof) newBox(i int) (*box, error) {
	b := &box{Box: wires.NewBox("hmp", i), p: p, i: i, wake: make(chan struct{}, 1), node: nodeID(p.seed, i, 0)}
	b.disk = wires.Disk{Image: filepath.Join(p.dir, b.Name+".img"), Dir: filepath.Join(p.dir, b.Name), Size: 96 << 20}
	if err := os.Mkdir(b.disk.Dir, 0o700); err != nil {
		return nil, err
	}
	return b, b.disk.Mount()
}

func nodeID(seed uint64, i, life int) string {
	rng := rand.New(rand.NewPCG(seed, uint64(i)<<32|uint64(life)))
	return fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
}

// who names the process under way. Callers hold mu.
func (b *box) who() string { return fmt.Sprintf("%s%d", b.Name, b.life) }

func (b *box) log() string { return filepath.Join(wires.Logs(b.p.dir), b.Name+".log") }

// start starts the process. Callers hold mu.
func (b *box) start() error {
	log, err := os.OpenFile(b.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	b.starts++
	cfg := dutybox.Config{
		NodeID: b.node, Name: b.who(), MeshID: nodeID(b.p.seed, 1<<20, 0), KeyFile: b.p.keyFile,
		Addr: b.Addr, Datacenter: "dc1", Rack: fmt.Sprintf("r%d", b.i%3),
		Dir: filepath.Join(b.disk.Dir, fmt.Sprintf("lease%d", b.life)), Found: b.i == 0 && b.life == 0,
		Incarnation: b.starts, Times: b.p.times(), Act: 5 * time.Millisecond, Report: 20 * time.Millisecond,
	}
	for _, o := range b.p.all {
		if o != b {
			cfg.Join = append(cfg.Join, o.Addr)
		}
	}
	fmt.Fprintf(log, "--- %s, start %d, %s into the run\n", cfg.Name, cfg.Incarnation, b.p.clock())
	cmd := b.Command(b.p.self, "-child")
	cmd.Stderr = log
	who := fmt.Sprintf("%s.%d", cfg.Name, cfg.Incarnation)
	proc, err := dutybox.Start(cmd, cfg, func(e dutybox.Event) { b.hear(who, e) })
	if err != nil {
		return err
	}
	b.running, b.state = proc, dutybox.State{}
	go func() {
		_, _ = proc.Do(context.Background(), dutybox.Command{Campaign: b.p.duties})
		b.p.mu.Lock()
		idle := b.p.idle
		b.p.mu.Unlock()
		if !idle {
			_, _ = proc.Do(context.Background(), dutybox.Command{Load: b.p.load(b.i, cfg.Incarnation)})
		}
	}()
	return nil
}

func (b *box) hear(who string, e dutybox.Event) {
	if e.State != nil {
		b.mu.Lock()
		if e.State.At > b.state.At {
			b.state = *e.State
		}
		b.mu.Unlock()
	}
	b.p.book.hear(b.i, who, e)
}

// process is the one that runs; nil when none does.
func (b *box) process() *dutybox.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}

// do has the process carry out a command.
func (b *box) do(ctx context.Context, limit time.Duration, cmd dutybox.Command) (dutybox.Event, error) {
	proc := b.process()
	if proc == nil {
		return dutybox.Event{}, errors.New("it does not run")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd.Until = time.Now().Add(limit)
	return proc.Do(ctx, cmd)
}

// want says whether a process shall run. One that shall not is killed as by a power cut.
func (b *box) want(running bool) {
	b.mu.Lock()
	b.wanted = running
	proc := b.running
	b.mu.Unlock()
	if !running && proc != nil {
		proc.Kill()
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// leads reports whether the process said a moment ago that it leads.
func (b *box) leads() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running != nil && b.state.Leads && dutybox.Now()-b.state.At < time.Second
}

// serves is 1 when the process said that it takes part in raft.
func (b *box) serves() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running != nil && b.state.Serving {
		return 1
	}
	return 0
}

// sickFor says that the disk is full, or was: the process may end.
func (b *box) sickFor(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sick = time.Now().Add(d)
}

// keep keeps a process running as wanted until ctx ends. An end that nobody asked for is a defect, but on a full disk.
func (b *box) keep(ctx context.Context) {
	for {
		b.mu.Lock()
		wanted := b.wanted
		var err error
		if wanted {
			err = b.start()
		}
		proc := b.running
		b.mu.Unlock()
		switch {
		case err != nil:
			b.p.defect("%s cannot be started: %v", b.Name, err)
			return
		case !wanted:
			select {
			case <-ctx.Done():
				return
			case <-b.wake:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-proc.Ended():
		}
		b.mu.Lock()
		byItself, sick := b.wanted && b.running == proc, time.Now().Before(b.sick)
		b.running = nil
		b.mu.Unlock()
		if byItself && !sick {
			b.p.defect("%s ended by itself: %s: %s", b.Name, proc.Exit(), wires.LastLine(b.log()))
		}
		if byItself && !wires.Pause(ctx, time.Second) {
			return
		}
	}
}

// replace ends the process for good, in order or not, and makes the box another node's. It returns the id of the former.
func (b *box) replace(inOrder bool) (former string) {
	b.mu.Lock()
	b.wanted = false
	proc := b.running
	b.mu.Unlock()
	if proc != nil {
		if inOrder {
			if err := proc.Quit(30 * time.Second); err != nil {
				b.p.say("%s did not end in order: %v", b.Name, err)
			}
		} else {
			proc.Kill()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	former = b.node
	b.life++
	b.starts = 0
	b.node = nodeID(b.p.seed, b.i, b.life)
	return former
}
