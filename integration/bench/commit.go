package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"hostmesh/integration/dutybox"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/lease/raftdisk"
)

// commit compares a Put of a record on three voters with an apply of a bare raft of as many processes: the same library with the same
// settings on the same kind of files, but a plain TCP transport and a state machine that does nothing.
func (b *bench) commit(ctx context.Context) error {
	l, err := b.newLeases(3, 0)
	if err != nil {
		return err
	}
	defer l.close()
	if _, _, err := l.voting(ctx, 3); err != nil {
		return err
	}
	raw, err := b.newRafts(ctx)
	if err != nil {
		return err
	}
	defer raw.end()
	var rates, away pairs
	n := b.count(300, 60)
	for range b.count(7, 3) {
		_, leader, err := l.voting(ctx, 3)
		if err != nil {
			return err
		}
		own, err := l.puts(ctx, leader, n)
		if err != nil {
			return fmt.Errorf("puts at the leader: %w", err)
		}
		bare, err := raw.applies(n)
		if err != nil {
			return fmt.Errorf("bare raft: %w", err)
		}
		other, err := l.puts(ctx, (leader+1)%3, n)
		if err != nil {
			return fmt.Errorf("puts at another node: %w", err)
		}
		rates.add(float64(median(own)), float64(median(bare)))
		away.add(float64(median(other)), float64(median(bare)))
	}
	p50 := func(list []float64) string { return ms(time.Duration(median(list))) }
	b.table.add(row{
		what: "record put on three voters, at the leader", measured: "p50 " + p50(rates.ours),
		peer: fmt.Sprintf("%.2f x bare raft, p50 %s", rates.ratio(), p50(rates.theirs)),
	})
	b.table.add(row{
		what: "record put on three voters, from another node", measured: "p50 " + p50(away.ours),
		peer: fmt.Sprintf("%.2f x bare raft", away.ratio()),
	})
	b.table.note("record put: 128 bytes, one after the other, each durable on two of three disks, which are one here. The bare raft is hashicorp/raft with our settings " +
		"and our files, over plain TCP, applied in the leader's process.")
	return nil
}

func (l *leases) puts(ctx context.Context, at, n int) ([]time.Duration, error) {
	e, err := l.do(ctx, at, dutybox.Command{Puts: n})
	return e.Took, err
}

// rafts are three processes of a bare raft.
type rafts struct {
	peers []*peer
	lead  int
}

func (b *bench) newRafts(ctx context.Context) (_ *rafts, err error) {
	r := &rafts{}
	defer func() {
		if err != nil {
			r.end()
		}
	}()
	dir, err := os.MkdirTemp(b.dir, "raft")
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range 3 {
		p, err := b.startPeer("raft", filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return nil, err
		}
		r.peers = append(r.peers, p)
		all = append(all, p.addr)
	}
	for _, p := range r.peers {
		if _, err := fmt.Fprintln(p.stdin, strings.Join(all, " ")); err != nil {
			return nil, err
		}
	}
	return r, until(ctx, 30*time.Second, 50*time.Millisecond, "the bare raft has a leader", func() (bool, error) {
		return r.find() == nil, nil
	})
}

func (r *rafts) end() {
	for _, p := range r.peers {
		p.end()
	}
}

// ask tells a peer a line, and returns what it says.
func (r *rafts) ask(i int, line string) (string, error) {
	if _, err := fmt.Fprintln(r.peers[i].stdin, line); err != nil {
		return "", err
	}
	return r.peers[i].out.ReadString('\n')
}

func (r *rafts) find() error {
	for i := range r.peers {
		if text, err := r.ask(i, "leads"); err == nil && strings.TrimSpace(text) == "true" {
			r.lead = i
			return nil
		}
	}
	return errors.New("nobody leads the bare raft")
}

func (r *rafts) applies(n int) (took []time.Duration, err error) {
	if err := r.find(); err != nil {
		return nil, err
	}
	text, err := r.ask(r.lead, fmt.Sprint(n))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), &took); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	return took, nil
}

// nothing is a state machine that keeps nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                  { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error)  { return nothing{}, nil }
func (nothing) Restore(r io.ReadCloser) error        { return r.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}

// serveRaft is one process of a bare raft. It prints its address and id, is told those of all, and then answers: leads, or how many applies
// to make, one after the other.
func serveRaft(dir string) error {
	disk, err := raftdisk.Open(raftdisk.Config{Path: dir, Node: filepath.Base(dir)})
	if err != nil {
		return err
	}
	defer disk.Close()
	trans, err := raft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		return err
	}
	fmt.Printf("%s=%s\n", trans.LocalAddr(), disk.RaftID())
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return trans.Close()
	}
	times := lease.DefaultTimes()
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(disk.RaftID())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = times.Election, times.Election, times.Lease, times.Election
	c.LogOutput, c.NoLegacyTelemetry = io.Discard, true
	var all raft.Configuration
	for one := range strings.FieldsSeq(in.Text()) {
		addr, id, _ := strings.Cut(one, "=")
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(addr)})
	}
	if err := raft.BootstrapCluster(c, disk.Logs(), disk.Stable(), disk.Snapshots(), trans, all); err != nil {
		return err
	}
	r, err := raft.NewRaft(c, nothing{}, disk.Logs(), disk.Stable(), disk.Snapshots(), trans)
	if err != nil {
		return err
	}
	for in.Scan() {
		if in.Text() == "leads" {
			fmt.Println(r.State() == raft.Leader)
			continue
		}
		var n int
		if _, err := fmt.Sscan(in.Text(), &n); err != nil {
			return err
		}
		took, value := []time.Duration{}, make([]byte, 170) // as many as a record's entry has
		for range n {
			began := time.Now()
			if err := r.Apply(value, times.Hold).Error(); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
		text, err := json.Marshal(took)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	}
	return errors.Join(r.Shutdown().Error(), trans.Close())
}
