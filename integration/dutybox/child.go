package dutybox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/lease"
)

// child is the process's inside.
type child struct {
	cfg   Config
	mesh  *mesh.Mesh
	lease *lease.Lease
	clock *clock
	ctx   context.Context
	wg    sync.WaitGroup

	sending sync.Mutex // guards out
	out     *json.Encoder

	mu     sync.Mutex // guards the fields below
	held   []*holding
	unload context.CancelFunc
}

// clock is the real one, set off by what the process was told.
type clock struct{ boot, wall atomic.Int64 }

func (c *clock) Now() time.Time      { return time.Now().Add(time.Duration(c.wall.Load())) }
func (c *clock) Boot() time.Duration { return Now() + time.Duration(c.boot.Load()) }

// Child is such a process: it runs until it is told to quit, or in ends.
func Child(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return errors.New("it is told nothing")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := &child{clock: &clock{}, out: json.NewEncoder(out), ctx: ctx}
	if err := json.Unmarshal(lines.Bytes(), &c.cfg); err != nil {
		return fmt.Errorf("its configuration: %w", err)
	}
	if err := c.open(); err != nil {
		return err
	}
	meshDone := make(chan error, 1)
	go func() { meshDone <- c.mesh.Run(context.Background()) }()
	c.wg.Go(func() { _ = c.lease.Run(ctx) })
	if c.cfg.Report > 0 {
		c.wg.Go(c.act)
	}
	quit := make(chan int, 1)
	go func() {
		for lines.Scan() {
			var cmd Command
			if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
				c.send(Event{Error: err.Error()})
				continue
			}
			if cmd.Quit {
				quit <- cmd.ID
				return
			}
			go c.answer(cmd)
		}
		quit <- 0
	}()
	var id int
	select {
	case id = <-quit:
	case err := <-meshDone:
		return fmt.Errorf("the mesh ended: %w", err)
	}
	cancel()
	err := c.lease.Close()
	c.wg.Wait()
	err = errors.Join(err, c.mesh.Close())
	c.reply(id, Event{}, err)
	return err
}

func (c *child) open() error {
	key, err := mesh.LoadKeyFile(c.cfg.KeyFile)
	if err != nil {
		return err
	}
	mc := mesh.DefaultConfig()
	if mc.Addr, err = netip.ParseAddr(c.cfg.Addr); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	mc.NodeID, mc.Name, mc.MeshID, mc.Key, mc.Join = c.cfg.NodeID, c.cfg.Name, c.cfg.MeshID, key, c.cfg.Join
	mc.Datacenter, mc.Rack, mc.Logger, mc.RedialMax = c.cfg.Datacenter, c.cfg.Rack, log, 2*time.Second
	lc := lease.DefaultConfig()
	lc.NodeID, lc.Name, lc.Datacenter, lc.Dir, lc.Founder = c.cfg.NodeID, c.cfg.Name, c.cfg.Datacenter, c.cfg.Dir, c.cfg.Found
	lc.Clock, lc.Logger, lc.Times = c.clock, log, c.cfg.Times
	if _, err := os.Stat(c.cfg.Dir); c.cfg.Found && errors.Is(err, fs.ErrNotExist) {
		if err := lease.Found(c.cfg.Dir, c.cfg.NodeID, c.cfg.Datacenter); err != nil {
			return err
		}
	}
	if c.mesh, err = mesh.Open(mc); err != nil {
		return err
	}
	lc.Mesh = c.mesh
	if c.lease, err = lease.Open(lc); err != nil {
		return errors.Join(err, c.mesh.Close())
	}
	return nil
}

// send writes one line. What was written is read, also when this process is killed a moment later.
func (c *child) send(e Event) {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.out.Encode(e) // nobody reads: then it is about to be killed
}

func (c *child) reply(id int, e Event, err error) {
	if e.ID = id; err != nil {
		e.Error = err.Error()
	}
	c.send(e)
}

func (c *child) answer(cmd Command) {
	limit := cmd.Until
	if limit.IsZero() {
		limit = time.Now().Add(10 * time.Second)
	}
	ctx, cancel := context.WithDeadline(c.ctx, limit)
	defer cancel()
	var e Event
	var err error
	switch {
	case len(cmd.Campaign) > 0:
		for _, duty := range cmd.Campaign {
			c.wg.Go(func() { c.campaign(duty) })
		}
	case cmd.Load != nil:
		c.load(*cmd.Load)
	case cmd.Idle:
		c.mu.Lock()
		if c.unload != nil {
			c.unload()
		}
		c.mu.Unlock()
	case cmd.Move != nil:
		_, err = c.lease.Move(ctx, cmd.Move.Duty, cmd.Move.Node)
	case cmd.Drain != "":
		err = c.lease.Drain(ctx, cmd.Drain, "prover", "a fault")
	case cmd.Undrain != "":
		if err = c.lease.Undrain(ctx, cmd.Undrain); errors.Is(err, lease.ErrNotFound) {
			err = nil
		}
	case cmd.Remove != "":
		err = c.mesh.Remove(cmd.Remove)
	case cmd.Leap != nil:
		c.clock.boot.Add(int64(cmd.Leap.Boot))
		c.clock.wall.Add(int64(cmd.Leap.Wall))
	case cmd.Puts > 0:
		e.Took, err = c.puts(ctx, cmd.Puts)
	case cmd.Voters:
		var v lease.Voters
		if v, err = c.lease.Voters(ctx); err == nil {
			e.Voters = &v
		}
	case cmd.Duties:
		e.Duties, err = c.lease.Duties(ctx)
	default:
		err = errors.New("it does not know this command")
	}
	c.reply(cmd.ID, e, err)
}

// puts replaces one record again and again.
func (c *child) puts(ctx context.Context, n int) (took []time.Duration, err error) {
	key := "bench/" + c.cfg.Name
	r, err := c.lease.Get(ctx, key)
	if err != nil && !errors.Is(err, lease.ErrNotFound) {
		return nil, err
	}
	value, version := make([]byte, 128), r.Version
	for range n {
		began := time.Now()
		if version, err = c.lease.Put(ctx, key, value, version); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// holding is a duty that this process holds or held.
type holding struct {
	g     *lease.Grant
	asked time.Duration
	ended time.Duration // the holder returned; 0 = not yet
	act   Act           // not reported yet
}

// watched is how long a grant that ended is looked at: it must not come to life again.
const watched = 10 * time.Second

func (c *child) campaign(duty string) {
	asked := Now()
	_ = c.lease.Campaign(c.ctx, duty, func(ctx context.Context, g *lease.Grant) error {
		h := &holding{g: g, asked: asked}
		c.mu.Lock()
		c.held = append(c.held, h)
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		asked = Now()
		h.ended = asked
		c.mu.Unlock()
		return nil
	})
}

// act acts on all that is held, also on what the holder should have stopped meanwhile, for as long as Valid says that it may.
func (c *child) act() {
	every := c.cfg.Act
	if every == 0 {
		every = c.cfg.Report
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var reported time.Duration
	for c.ctx.Err() == nil {
		<-tick.C
		if c.cfg.Act > 0 {
			c.mu.Lock()
			held := append([]*holding(nil), c.held...)
			c.mu.Unlock()
			for _, h := range held {
				from := Now()
				ok := h.g.Valid()
				by := Now()
				if !ok {
					continue
				}
				if h.act.Count == 0 {
					h.act = Act{Duty: h.g.Duty, Fence: h.g.Fence, Asked: h.asked, From: from, FromBy: by}
				}
				h.act.To, h.act.ToBy = from, by
				h.act.Count++
			}
		}
		if now := Now(); now-reported >= c.cfg.Report {
			reported = now
			c.report(now)
		}
	}
}

func (c *child) report(now time.Duration) {
	h := c.lease.Health()
	e := Event{State: &State{At: now, Leads: h.Leads, Serving: h.Serving, Holds: len(h.Holding), BytesOut: c.mesh.Stats().BytesOut}}
	c.mu.Lock()
	kept := c.held[:0]
	for _, h := range c.held {
		if h.act.Count > 0 {
			e.Acts = append(e.Acts, h.act)
			h.act = Act{}
		}
		if h.ended == 0 || now-h.ended < watched {
			kept = append(kept, h)
		}
	}
	clear(c.held[len(kept):])
	c.held = kept
	c.mu.Unlock()
	c.send(e)
}
