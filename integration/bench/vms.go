package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hostmesh/node/api"
)

// networkForVMs makes every agent's host a box, and enters a zone and a network.
func (m *mesh) networkForVMs(ctx context.Context, bridge, box string) error {
	docs := map[string]string{
		"tags/net":  "Subnet: {CIDR: 10.66.0.0/16, Gateway: 10.66.0.1, Bridge: " + bridge + ", Pool: 10.66.128.0/17}",
		"tags/zone": "DNS: {Zone: vm.bench, TTL: 1}",
	}
	for _, a := range m.agents {
		docs["hosts/"+a.name] = "Box: " + box
	}
	c, err := api.NewClient(api.ClientConfig{Socket: m.agents[0].socket()})
	if err != nil {
		return err
	}
	defer c.Close()
	for id, text := range docs {
		if _, err := c.Put(ctx, id, []byte(text), "bench"); err != nil {
			return err
		}
	}
	return m.equal(ctx, m.agents...)
}

func (a *agent) socket() string { return filepath.Join(a.dir, "agent.sock") }

// run runs the command line.
func (a *agent) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, a.mesh.b.binary, args...)
	cmd.Env = append(os.Environ(), "HOSTMESH_SOCKET="+a.socket())
	_, err := output(cmd)
	return err
}

// addImage adds the image tiny, and has all boxes fetch it.
func (a *agent) addImage(ctx context.Context, dir string, more ...string) error {
	disk := filepath.Join(dir, "tiny.qcow2")
	if _, err := output(exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", disk, "4M")); err != nil {
		return err
	}
	if err := a.run(ctx, append([]string{"image", "add", "tiny", disk, "-m", "bench"}, more...)...); err != nil {
		return err
	}
	if err := a.mesh.equal(ctx, a.mesh.agents...); err != nil {
		return err
	}
	return a.run(ctx, "image", "push", "tiny")
}

// vmEvents are what one agent tells of machines.
type vmEvents struct {
	list chan vmHeard
	err  chan error
}

type vmHeard struct {
	vm api.VM
	at time.Time
}

// watchVMs returns when the agent has told how all stand.
func watchVMs(ctx context.Context, c *api.Client) (*vmEvents, error) {
	e := &vmEvents{list: make(chan vmHeard, 1<<14), err: make(chan error, 1)}
	synced := make(chan struct{})
	go func() {
		once := sync.OnceFunc(func() { close(synced) })
		for ev, err := range c.WatchVMs(ctx, nil, func(error) {}) {
			if err != nil {
				e.err <- err
				return
			}
			if ev.Kind == api.EventSynced {
				once()
			}
			if ev.VM != nil {
				e.list <- vmHeard{*ev.VM, time.Now()}
			}
		}
	}()
	select {
	case <-synced:
		return e, nil
	case err := <-e.err:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// until returns when a machine was told of that is meant; a failed one is an error.
func (e *vmEvents) until(ctx context.Context, ok func(api.VM) bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		select {
		case h := <-e.list:
			if ok(h.vm) {
				return h.at, nil
			}
			if h.vm.Phase == "failed" {
				return time.Time{}, fmt.Errorf("%s failed: %s", h.vm.Name, h.vm.Reason)
			}
		case err := <-e.err:
			return time.Time{}, err
		case <-ctx.Done():
			return time.Time{}, errors.New("the machine is not where it is meant to be within a minute")
		}
	}
}

// vmMesh is some boxes whose hypervisor is libvirt's test driver.
func (b *bench) vmMesh(ctx context.Context, n int, box string) (*mesh, []*api.Client, error) {
	b.agentLines = "libvirt: 'test:///default'\n"
	m, err := b.newMesh(ctx, n)
	b.agentLines = ""
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*mesh, []*api.Client, error) {
		m.close()
		return nil, nil, err
	}
	if err := m.networkForVMs(ctx, "virbr0", box); err != nil {
		return fail(err)
	}
	if err := m.agents[0].addImage(ctx, m.dir); err != nil {
		return fail(err)
	}
	var all []*api.Client
	for _, a := range m.agents {
		c, err := api.NewClient(api.ClientConfig{Socket: a.socket()})
		if err != nil {
			return fail(err)
		}
		all = append(all, c)
	}
	// Each box has said that it is fit, and somebody places.
	err = until(ctx, time.Minute, 50*time.Millisecond, "all boxes are fit", func() (bool, error) {
		c, err := all[0].VMCapacity(ctx, nil)
		if err != nil {
			return false, nil
		}
		fit := 0
		for _, x := range c.Boxes {
			if x.Boxes > 0 && x.Out == 0 {
				fit++
			}
		}
		return fit == n, nil
	})
	if err != nil {
		return fail(err)
	}
	return m, all, nil
}

func closeAll(all []*api.Client) {
	for _, c := range all {
		c.Close()
	}
}

// vmPlace has 50 machines made at once on ten boxes that have room for 60.
func (b *bench) vmPlace(ctx context.Context) error {
	const boxes, machines, each, gib = 10, 50, 6, int64(1) << 30
	var all []time.Duration
	worst := int64(0)
	for range b.count(3, 1) {
		took, most, err := b.placeOnce(ctx, boxes, machines, each)
		if err != nil {
			return err
		}
		all, worst = append(all, took), max(worst, most)
	}
	b.table.add(row{
		what:     fmt.Sprintf("vm: %d made at once on %d boxes -> all run", machines, boxes),
		measured: fmt.Sprintf("p50 %s, worst %s (n=%d)", ms(median(all)), ms(slices.Max(all)), len(all)),
		budget:   "< 3 s, no box beyond what it has",
		peer:     fmt.Sprintf("fullest box %d of %d GiB", worst/gib, each),
		met:      when(slices.Max(all) < 3*time.Second && worst <= each*gib),
	})
	b.table.note("vmplace: real agents on loopback, libvirt's test driver; each machine has 1 GiB, each box 6 GiB to give, and all wishes are sent at once, to all agents in turn.")
	return nil
}

func (b *bench) placeOnce(ctx context.Context, boxes, machines, each int) (took time.Duration, most int64, err error) {
	const foreign = 8 // GiB that the test driver's own machine has
	m, all, err := b.vmMesh(ctx, boxes, fmt.Sprintf("{Memory: %dGiB, CPUs: 64, Disk: 1TiB}", foreign+each))
	if err != nil {
		return 0, 0, err
	}
	defer m.close()
	defer closeAll(all)
	events, err := watchVMs(ctx, all[0])
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	errs := make([]error, machines)
	var wg sync.WaitGroup
	for i := range machines {
		wg.Go(func() {
			_, errs[i] = all[i%len(all)].CreateVM(ctx, api.VMWish{Name: fmt.Sprintf("vm%d.vm.bench", i), Image: "tiny", Subnet: "net", Memory: "1GiB", Disk: "16MiB", Tags: []string{"zone"}, Log: "bench"})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, 0, err
	}
	running := map[string]bool{}
	at, err := events.until(ctx, func(vm api.VM) bool {
		if vm.Phase == "running" {
			running[vm.Name] = true
		}
		return len(running) == machines
	})
	if err != nil {
		return 0, 0, fmt.Errorf("%d of %d run: %w", len(running), machines, err)
	}
	list, err := all[0].VMs(ctx, api.VMFilter{})
	if err != nil {
		return 0, 0, err
	}
	on, ips := map[string]int64{}, map[string]bool{}
	for _, vm := range list.VMs {
		if vm.Phase == "running" && vm.Wanted {
			on[vm.Box] += vm.Memory
			ips[vm.IP] = true
		}
	}
	if len(ips) != machines {
		return 0, 0, fmt.Errorf("%d machines have %d addresses", machines, len(ips))
	}
	for _, used := range on {
		most = max(most, used)
	}
	return at.Sub(begin), most, nil
}

// vmName measures from the address of a new machine being known anywhere to its name being answered everywhere.
func (b *bench) vmName(ctx context.Context) error {
	const boxes = 10
	m, all, err := b.vmMesh(ctx, boxes, "{Memory: 64GiB, CPUs: 64, Disk: 1TiB}")
	if err != nil {
		return err
	}
	defer m.close()
	defer closeAll(all)
	var watch []*vmEvents
	for _, c := range all {
		e, err := watchVMs(ctx, c)
		if err != nil {
			return err
		}
		watch = append(watch, e)
	}
	var took []time.Duration
	for i := range b.count(30, 8) {
		name := fmt.Sprintf("vm%d.vm.bench", i)
		if _, err := all[i%boxes].CreateVM(ctx, api.VMWish{Name: name, Image: "tiny", Subnet: "net", Memory: "1GiB", Disk: "16MiB", Tags: []string{"zone"}, Log: "bench"}); err != nil {
			return err
		}
		known, answered := make([]time.Time, boxes), make([]time.Time, boxes)
		errs := make([]error, 2*boxes)
		var wg sync.WaitGroup
		for k, a := range m.agents {
			wg.Go(func() {
				known[k], errs[k] = watch[k].until(ctx, func(vm api.VM) bool { return vm.Name == name && vm.IP != "" })
			})
			wg.Go(func() { answered[k], errs[boxes+k] = answeredAt(ctx, a.addr+":"+dnsPort, name) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		first, last := slices.MinFunc(known, time.Time.Compare), slices.MaxFunc(answered, time.Time.Compare)
		took = append(took, max(last.Sub(first), 0))
	}
	p99 := quantile(took, 0.99)
	b.table.add(row{
		what:     fmt.Sprintf("vm: address known -> name answered by %d nodes", boxes),
		measured: fmt.Sprintf("p50 %s, p99 %s (n=%d)", ms(median(took)), ms(p99), len(took)), budget: "< 1 s",
		met: when(p99 < time.Second),
	})
	return nil
}

// answeredAt asks a server until it has an address for a name.
func answeredAt(ctx context.Context, server, name string) (at time.Time, err error) {
	d, err := dialDNS(server)
	if err != nil {
		return at, err
	}
	defer d.close()
	err = until(ctx, time.Minute, 2*time.Millisecond, server+" answers "+name, func() (bool, error) {
		got, err := d.lookup(name)
		at = time.Now()
		return got != "", err
	})
	return at, err
}
