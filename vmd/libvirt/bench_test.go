//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"hostmesh/integration/guest"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// BenchmarkDefineStart sets Define and Start beside the same two calls of bare libvirt with the same XML, in turns, and
// tells what one costs more than the other.
func BenchmarkDefineStart(b *testing.B) {
	d, g, dir := daemon(b), build(b), dirFor(b)
	h := open(b, d.URI(), vmdtest.Mesh, dir)
	defer h.Close()
	raw, err := libvirt.NewConnect(d.URI())
	must(b, err)
	defer raw.Close()
	var all [2][]time.Duration // ours, bare
	rounds := 0
	for b.Loop() {
		mine, theirs := domainOf(fmt.Sprintf("ours-%d", rounds), g), domainOf(fmt.Sprintf("bare-%d", rounds), g)
		turns := []func(){
			func() {
				begin := time.Now()
				must(b, h.Define(b.Context(), mine))
				must(b, h.Start(b.Context(), mine.UUID))
				all[0] = append(all[0], time.Since(begin))
				must(b, h.Destroy(b.Context(), mine.UUID))
				must(b, h.Undefine(b.Context(), mine.UUID))
			},
			func() {
				text, err := domainXML(theirs, platformHere(b, h))
				must(b, err)
				begin := time.Now()
				dom, err := raw.DomainDefineXMLFlags(text, 0)
				must(b, err)
				must(b, dom.Create())
				all[1] = append(all[1], time.Since(begin))
				must(b, dom.Destroy())
				must(b, dom.Undefine())
				must(b, dom.Free())
			},
		}
		for i := range turns { // who begins changes
			turns[(i+rounds)%2]()
		}
		rounds++
	}
	slices.Sort(all[0])
	slices.Sort(all[1])
	ours, bare := all[0][rounds/2], all[1][rounds/2] // medians
	b.ReportMetric(ours.Seconds()*1000, "ours-ms")
	b.ReportMetric(bare.Seconds()*1000, "bare-ms")
	b.ReportMetric((ours-bare).Seconds()*1000, "more-ms")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "ratio")
}

func domainOf(name string, g guest.Guest) plan.Domain {
	m := machine(name, g)
	m.Memory = 64 << 20
	return m
}

func platformHere(b *testing.B, h *Hypervisor) platform {
	b.Helper()
	c, err := h.acquire()
	must(b, err)
	defer h.release(c)
	return c.platform
}
