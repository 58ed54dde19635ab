package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/mesh"
	"hostmesh/node/api"
	"hostmesh/vmd/image"
)

const (
	// imageSweep is how often files are looked for that nothing refers to.
	imageSweep = 10 * time.Minute
	// imageAsk bounds one question to another node.
	imageAsk = 5 * time.Second
	// imageAsked is how many nodes are asked at a time.
	imageAsked = 16
)

// images implements api.Images, and shows the mesh to the store.
type images struct {
	log     *slog.Logger
	db      *hostdb.Store
	mesh    *mesh.Mesh
	store   *image.Store // nil when this box keeps no images: why says so
	why     error
	vmDir   string
	observe bool
	// hasHypervisor: machines may use files of the store, and only who asks the hypervisor knows which.
	hasHypervisor bool

	// inUse lists the files that the machines of this box refer to, foreign ones included. nil: nobody knows, so where there is
	// a hypervisor nothing is removed. It is set before run.
	inUse func(ctx context.Context) ([]string, error)
}

// openImages opens the store of base images, where this box keeps any. That it cannot be opened is no reason not to run:
// status and whoever wants an image hear of it.
func (a *Agent) openImages() error {
	m := &images{log: a.log, db: a.store, mesh: a.mesh, vmDir: a.cfg.VM.Dir, observe: a.cfg.Observe, hasHypervisor: a.cfg.Libvirt != ""}
	a.images = m
	switch {
	case a.cfg.Observe: // the store tidies up when it is opened, and fetches when it is asked
		m.why = fmt.Errorf("%w: it runs with --observe", api.ErrNoImages)
	case a.cfg.VM.Dir == "":
		m.why = fmt.Errorf("%w: set vm.dir, or use a node with a hypervisor", api.ErrNoImages)
	default:
		s, err := image.Open(image.Config{Dir: filepath.Join(a.cfg.VM.Dir, "images"), Logger: a.log, Clock: a.clock, Peers: imagePeers{m}, AllowLocal: a.cfg.Dev || a.cfg.VM.LocalURLs})
		if err != nil {
			a.log.Error("no images are kept here", "err", err)
			m.why = fmt.Errorf("%w: %w", api.ErrNoImages, err)
		} else {
			m.store = s
			a.closers = append(a.closers, s.Close)
		}
	}
	serve := func(name string, h func(ctx context.Context, req []byte) ([]byte, error)) {
		a.mesh.Handle(name, func(ctx context.Context, _ mesh.Caller, req []byte) ([]byte, error) {
			if m.store == nil {
				return nil, noImages{m.why}
			}
			return h(ctx, req)
		})
	}
	serve(image.HandlerRead, func(ctx context.Context, req []byte) ([]byte, error) { return m.store.ServeRead(ctx, req) })
	serve(image.HandlerHave, func(ctx context.Context, req []byte) ([]byte, error) { return m.store.ServeHave(ctx, req) })
	serve(image.HandlerFetch, func(ctx context.Context, req []byte) ([]byte, error) {
		return m.store.ServeFetch(ctx, req, m.db.View())
	})
	serve(image.HandlerVerify, func(ctx context.Context, req []byte) ([]byte, error) {
		return m.store.ServeVerify(ctx, req, m.db.View())
	})
	return nil
}

// codeNoImages tells another node that this one keeps no images.
const codeNoImages = "no_images"

type noImages struct{ error }

func (noImages) ErrorCode() string { return codeNoImages }

func (e noImages) Unwrap() error { return e.error }

// run removes files that nothing refers to, from time to time.
func (m *images) run(ctx context.Context) error {
	t := time.NewTicker(imageSweep)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if m.store == nil || m.observe {
			continue
		}
		if err := m.sweep(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("unneeded images not removed", "err", err)
		}
	}
}

// sweep removes the files of the store to which nothing refers.
func (m *images) sweep(ctx context.Context) error {
	inUse := m.inUse
	if inUse == nil && m.hasHypervisor {
		return nil // nobody knows what the machines need
	}
	var use image.Use
	if inUse != nil {
		files, err := inUse(ctx)
		if err != nil {
			return err
		}
		use.Needed = files
	}
	bases, err := image.BaseFiles(m.vmDir)
	if err != nil {
		return err
	}
	use.Needed = append(use.Needed, bases...)
	view := m.db.View()
	var bad map[string]error
	use.Catalogue, bad = image.Catalogue(view)
	for name := range bad {
		use.Bad = append(use.Bad, name)
	}
	for name := range wanted(view) {
		use.Images = append(use.Images, name)
	}
	m.store.Forget(func(p image.Progress) bool {
		img, there := use.Catalogue[p.Image]
		return there && img.ID() == p.ID
	})
	_, err = m.store.Prune(use)
	return err
}

// wanted counts the hosts that name each image.
func wanted(view hostdb.View) map[string]int {
	n := map[string]int{}
	for host := range view.Keys(hostdb.Hosts) {
		if name := view.Data(hostdb.Hosts, host).Text("VM", "Image"); name != "" {
			n[name]++
		}
	}
	return n
}

func (m *images) collectors() []prometheus.Collector {
	if m.store == nil {
		return nil
	}
	return m.store.Collectors()
}

// maxImageProblems bounds what status tells of images.
const maxImageProblems = 5

// problems are what an operator should know of images.
func (m *images) problems() []api.Problem {
	var list []api.Problem
	add := func(severity, text, remedy string) {
		if len(list) < maxImageProblems {
			list = append(list, api.Problem{Severity: severity, Subject: "images", Text: text, Remedy: remedy})
		}
	}
	if m.store == nil && m.vmDir != "" && !m.observe {
		add(api.SeverityError, m.why.Error(), "make vm.dir a directory that the agent can write, and start it again")
	}
	good, bad := image.Catalogue(m.db.View())
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range bad {
			if !yield(name) {
				return
			}
		}
	}) {
		add(api.SeverityError, bad[name].Error(), "correct images/"+name+", or add it again with --replace; until then no unneeded file is removed")
	}
	for _, name := range image.Names(good) {
		if u := good[name].Unknown; len(u) > 0 {
			add(api.SeverityNotice, fmt.Sprintf("images/%s: %s is not known and does nothing", name, strings.Join(u, ", ")), "take it out, or correct its name")
		}
	}
	if m.store != nil {
		for _, p := range m.store.Progress() {
			if img, there := good[p.Image]; p.Err != nil && there && img.ID() == p.ID {
				add(api.SeverityError, fmt.Sprintf("image %s cannot be fetched: %v", p.Image, p.Err), "see hostmesh image show "+p.Image)
			}
		}
	}
	return list
}
