package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// siteHosts is the size of the site that most measurements look at.
const siteHosts = 10_000

// imported is what filling the shared mesh took.
type imported struct {
	tags        int
	took, equal time.Duration
	cpu         []time.Duration // of each agent, until all were equal
}

// shared is the mesh of three agents with a generated site in it; the first to ask pays for it.
func (b *bench) shared(ctx context.Context) (*mesh, error) {
	if b.mesh != nil {
		return b.mesh, nil
	}
	m, err := b.newMesh(ctx, 3)
	if err != nil {
		return nil, err
	}
	if err := m.fill(ctx, siteHosts); err != nil {
		m.close()
		return nil, err
	}
	b.mesh = m
	return m, nil
}

// fill imports n generated hosts at the first agent and waits until all agents have them.
func (m *mesh) fill(ctx context.Context, n int) error {
	dir := filepath.Join(m.dir, "inventory")
	tags, err := writeInventory(dir, n)
	if err != nil {
		return err
	}
	before, err := m.computed()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := m.agents[0].importDir(ctx, dir); err != nil {
		return err
	}
	ended := time.Now()
	if err := m.equal(ctx, m.agents...); err != nil {
		return err
	}
	m.imported = imported{tags: tags, took: ended.Sub(begin), equal: time.Since(ended)}
	if m.imported.cpu, err = m.computed(); err != nil {
		return err
	}
	for i := range before {
		m.imported.cpu[i] -= before[i]
	}
	return m.login(ctx)
}

// computed is what each agent has computed so far.
func (m *mesh) computed() ([]time.Duration, error) {
	var all []time.Duration
	for _, a := range m.agents {
		cpu, err := processCPU(a.pid())
		if err != nil {
			return nil, err
		}
		all = append(all, cpu)
	}
	return all, nil
}

func (b *bench) importing(ctx context.Context) error {
	m, err := b.shared(ctx)
	if err != nil {
		return err
	}
	im := m.imported
	rate := siteHosts / im.took.Seconds()
	b.table.add(row{
		what:     fmt.Sprintf("hostmesh db import of %d hosts, %d tags; 3 agents", siteHosts, im.tags),
		measured: fmt.Sprintf("%.0f hosts/s (%s)", rate, ms(im.took)), budget: ">= 5000 hosts/s", met: when(rate >= 5000),
	})
	var sum time.Duration
	var each []string
	for _, cpu := range im.cpu {
		sum += cpu
		each = append(each, ms(cpu))
	}
	b.table.add(row{what: "its CPU, of the 3 agents", measured: ms(sum), peer: strings.Join(each, ", ")})
	b.table.add(row{
		what: "its end -> equal digests at all 3", measured: ms(im.equal), budget: "< 2 s", met: when(im.equal < 2*time.Second),
	})
	return nil
}
