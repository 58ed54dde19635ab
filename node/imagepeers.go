package node

import (
	"context"
	"slices"
	"sync"

	"hostmesh/mesh"
	"hostmesh/vmd/image"
)

// imagePeers implements image.Peers.
type imagePeers struct{ m *images }

func (p imagePeers) Call(ctx context.Context, node, handler string, req []byte) ([]byte, error) {
	return p.m.mesh.Call(ctx, node, handler, req)
}

// Holders implements image.Peers: nodes that report to have it, or else that say so when they are asked, the nearest first.
func (p imagePeers) Holders(ctx context.Context, img image.Image) []string {
	mv := p.m.mesh.View()
	self := mv.Self().ID
	nodes := p.m.where(ctx, mv, []image.Image{img}, false)[0]
	slices.SortStableFunc(nodes, func(a, b string) int {
		x, knowX := mv.Distance(self, a)
		y, knowY := mv.Distance(self, b)
		switch {
		case knowX && knowY:
			return int(x - y)
		case knowX:
			return -1
		case knowY:
			return 1
		}
		return 0
	})
	return slices.DeleteFunc(nodes, func(id string) bool { return id == self })
}

// where are the ids of the live nodes that have each of these images. Reports tell. Where no report knows of an image all are
// asked, for theirs may be late; else, when all is set, those that report nothing.
func (m *images) where(ctx context.Context, mv mesh.View, list []image.Image, all bool) [][]string {
	out := make([][]string, len(list))
	var silent, alive []string
	for x := range mv.Alive() {
		alive = append(alive, x.ID)
		r, ok := mv.Report(x.ID)
		if !ok || r.Box == nil || r.Box.Hypervisor == "" { // one that only keeps images tells them when HostDB changes
			silent = append(silent, x.ID)
			continue
		}
		for i, img := range list {
			for _, id := range r.Box.Images {
				if id == img.ID() {
					out[i] = append(out[i], x.ID)
					break
				}
			}
		}
	}
	known := !slices.ContainsFunc(out, func(nodes []string) bool { return len(nodes) == 0 })
	if len(list) == 0 || known && !all {
		return out
	}
	var mu sync.Mutex
	if !known {
		silent = alive
	}
	m.each(ctx, silent, func(ctx context.Context, node string) {
		ctx, cancel := context.WithTimeout(ctx, imageAsk)
		defer cancel()
		has, err := image.AskHave(ctx, imagePeers{m}, node, list)
		if err != nil {
			return // it keeps none, is older, or is away: then it has none to give
		}
		mu.Lock()
		defer mu.Unlock()
		for _, i := range has {
			if !slices.Contains(out[i], node) {
				out[i] = append(out[i], node)
			}
		}
	})
	for _, nodes := range out {
		slices.Sort(nodes)
	}
	return out
}

// each does something with nodes, some at a time, and waits for all.
func (m *images) each(ctx context.Context, nodes []string, do func(ctx context.Context, node string)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, imageAsked)
	for _, node := range nodes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(ctx, node)
		})
	}
	wg.Wait()
}
