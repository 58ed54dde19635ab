package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
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
		s, err := image.Open(image.Config{Dir: filepath.Join(a.cfg.VM.Dir, "images"), Logger: a.log, Clock: a.clock, Peers: imagePeers{m}})
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

// apiError is an error of images with what it means for a client.
type apiError struct {
	error
	kind error
}

func (e apiError) Unwrap() []error { return []error{e.error, e.kind} }

func imageError(err error) error {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case err == nil:
		return nil
	case is(image.ErrNoSpace):
		return apiError{err, api.ErrNoSpace}
	case is(image.ErrClosed):
		return apiError{err, api.ErrNoImages}
	case is(image.ErrBadImage), is(image.ErrChecksum):
		return apiError{err, api.ErrBadImage}
	case is(image.ErrNoSource):
		return apiError{err, api.ErrUpstream}
	case is(image.ErrNotHere):
		return apiError{err, api.ErrNotFound}
	}
	return err
}

// Images implements api.Images.
func (m *images) Images(ctx context.Context) ([]api.Image, error) {
	view := m.db.View()
	return m.describe(ctx, view, slices.Collect(view.Keys(image.Namespace))), nil
}

// Image implements api.Images.
func (m *images) Image(ctx context.Context, name string) (api.Image, error) {
	view := m.db.View()
	if _, err := image.Get(view, name); errors.Is(err, hostdb.ErrNotFound) {
		return api.Image{}, err
	}
	return m.describe(ctx, view, []string{name})[0], nil
}

// describe tells all about images of these names.
func (m *images) describe(ctx context.Context, view hostdb.View, names []string) []api.Image {
	out := make([]api.Image, 0, len(names))
	var good []image.Image
	hosts := wanted(view)
	for _, name := range names {
		item, _ := view.Get(image.Namespace, name)
		one := api.Image{Name: name, Nodes: []string{}, Hosts: hosts[name]}
		if at := item.Modified(); !at.IsZero() {
			at = at.UTC()
			one.Modified = &at
		}
		img, err := image.Parse(name, item.Data())
		if err != nil {
			one.Broken = err.Error()
			out = append(out, one)
			continue
		}
		one.Format, one.Size, one.VirtualSize, one.ID = string(img.Format), img.Size(), img.VirtualSize, img.ID()
		one.Cmdline, one.Unknown = img.Cmdline, img.Unknown
		for _, part := range []struct {
			f    image.File
			into **api.ImageFile
		}{{img.Disk, &one.Disk}, {img.Kernel, &one.Kernel}, {img.Initrd, &one.Initrd}} {
			if !part.f.IsZero() {
				*part.into = &api.ImageFile{SHA256: part.f.SHA256, Size: part.f.Size, URL: part.f.URL}
			}
		}
		out = append(out, one)
		good = append(good, img)
	}
	mv := m.mesh.View()
	at := m.where(ctx, mv, good, true)
	ways := map[string]*api.ImageWay{}
	if m.store != nil {
		for _, p := range m.store.Progress() {
			w := &api.ImageWay{Done: p.Done, Total: p.Total, From: m.people(p.From)}
			if p.Err != nil {
				w.Error = m.people(p.Err.Error())
			}
			ways[p.Image+" "+p.ID] = w
		}
	}
	for i := range out {
		if out[i].Broken != "" {
			continue
		}
		for _, id := range at[0] {
			if x, ok := mv.Get(id); ok {
				out[i].Nodes = append(out[i].Nodes, x.Name)
			}
		}
		at = at[1:]
		slices.Sort(out[i].Nodes)
		out[i].Fetching = ways[out[i].Name+" "+out[i].ID]
	}
	return out
}

// people is a text with the names of nodes in place of their ids.
func (m *images) people(text string) string {
	if !strings.Contains(text, "node ") {
		return text
	}
	for _, x := range m.mesh.View().Members() {
		text = strings.ReplaceAll(text, "node "+x.ID, "node "+x.Name)
	}
	return text
}

// may refuses who may not write the entry of an image, before anything long is done.
func (m *images) may(who api.Identity, name, log string) error {
	if err := image.CheckName(name); err != nil {
		return imageError(err)
	}
	view := m.db.View()
	if !view.HasNamespace(image.Namespace) {
		if !who.Admin {
			return fmt.Errorf("%w: the namespace %s is made with the first image, and only an administrator may make one: ask one for the first, or for hostmesh db namespace create %s",
				hostdb.ErrDenied, image.Namespace, image.Namespace)
		}
		return nil
	}
	if allow := request(who, log).Allow; allow != nil {
		return allow(view, image.Namespace, name, hostdb.Data)
	}
	return nil
}

// MayAddImage implements api.Images.
func (m *images) MayAddImage(who api.Identity, name string) error {
	if m.store == nil {
		return m.why
	}
	return m.may(who, name, "")
}

// TakeImageFile implements api.Images.
func (m *images) TakeImageFile(ctx context.Context, who api.Identity, name string, body io.Reader, up api.ImageUpload, progress func(api.ImageProgress)) (api.ImageFile, error) {
	if m.store == nil {
		return api.ImageFile{}, m.why
	}
	if err := m.may(who, name, ""); err != nil {
		return api.ImageFile{}, err
	}
	t, err := m.store.Put(ctx, body, image.Incoming{Format: image.Format(up.Format), SHA256: up.SHA256, Size: up.Size, Progress: shown("receiving", progress)})
	if err != nil {
		return api.ImageFile{}, imageError(err)
	}
	m.log.Info("file of an image taken", "image", name, "sha256", t.SHA256, "bytes", t.Size, "user", who.User)
	return api.ImageFile{SHA256: t.SHA256, Size: t.Size, Format: string(t.Format), VirtualSize: t.VirtualSize}, nil
}

// shown tells a client how far a file is.
func shown(what string, progress func(api.ImageProgress)) func(done, total int64) {
	return func(done, total int64) { progress(api.ImageProgress{What: what, Done: done, Total: max(total, 0)}) }
}

// AddImage implements api.Images.
func (m *images) AddImage(ctx context.Context, who api.Identity, name string, wish api.ImageWish, progress func(api.ImageProgress)) (api.ImageWritten, error) {
	var none api.ImageWritten
	if m.store == nil {
		return none, m.why
	}
	if err := m.may(who, name, wish.Log); err != nil {
		return none, err
	}
	img := image.Image{Name: name, Format: image.Format(wish.Format), Cmdline: wish.Cmdline}
	switch {
	case wish.Disk == nil && wish.Kernel == nil:
		return none, apiError{errors.New("an image needs a disk, or a kernel"), api.ErrBadImage}
	case wish.Disk == nil:
		if img.Format == "" {
			img.Format = image.Kernel
		}
	case img.Format == image.Kernel:
		return none, apiError{errors.New("an image of the format kernel has no disk; leave the format or the disk out"), api.ErrBadImage}
	}
	if err := image.CheckTemplate(wish.Cmdline); err != nil {
		return none, apiError{fmt.Errorf("command line of the kernel: %w", err), api.ErrBadImage}
	}
	for _, part := range []struct {
		what   string
		from   *api.ImageSource
		format image.Format
		into   *image.File
	}{
		{"disk", wish.Disk, img.Format, &img.Disk}, {"kernel", wish.Kernel, image.Kernel, &img.Kernel}, {"initrd", wish.Initrd, image.Kernel, &img.Initrd},
	} {
		if part.from == nil {
			continue
		}
		t, err := m.obtain(ctx, *part.from, part.format, shown("fetching the "+part.what, progress))
		if err != nil {
			return none, imageError(fmt.Errorf("%s of image %s: %w", part.what, name, err))
		}
		*part.into = t.File
		if part.what == "disk" {
			img.Format, img.VirtualSize = t.Format, t.VirtualSize
		}
	}
	doc := img.Document()
	if _, err := image.Parse(name, doc); err != nil {
		return none, imageError(err)
	}
	out := api.ImageWritten{Name: name, ID: img.ID()}
	c, err := m.db.Update(ctx, request(who, wish.Log), func(tx *hostdb.Tx) error {
		if err := m.makeNamespace(tx, who, name); err != nil {
			return err
		}
		out.Created = !tx.Exists(image.Namespace, name)
		if !out.Created && !wish.Replace {
			old, err := image.Parse(name, tx.View().Data(image.Namespace, name))
			if err != nil || old.ID() != img.ID() || old.Format != img.Format || old.Cmdline != img.Cmdline {
				return fmt.Errorf("%w: image %s is there and is another; --replace puts this one in its place (machines that are there keep what they have), or take another name", hostdb.ErrExists, name)
			}
		}
		return tx.Put(image.Namespace, name, doc)
	})
	if err != nil {
		return none, err
	}
	out.Acks = c.Acks
	if c.Changed() {
		out.Revision = c.Revision.String()
		m.log.Info("image added", "image", name, "id", out.ID, "format", string(img.Format), "bytes", img.Size(), "user", who.User, "revision", out.Revision)
	}
	if _, err := m.store.Ensure(ctx, img); err != nil { // it is here: this keeps its name
		m.log.Warn("image added, but not ready here", "image", name, "err", err)
	}
	return out, nil
}

// makeNamespace makes the namespace of the catalogue with the first image.
func (m *images) makeNamespace(tx *hostdb.Tx, who api.Identity, name string) error {
	if tx.View().HasNamespace(image.Namespace) {
		return nil
	}
	if !who.Admin { // it went since may looked
		return m.may(who, name, "")
	}
	return tx.CreateNamespace(image.Namespace)
}

// obtain makes a part of a new image be here.
func (m *images) obtain(ctx context.Context, from api.ImageSource, format image.Format, progress func(done, total int64)) (image.Taken, error) {
	if from.URL == "" {
		return m.store.Look(strings.ToLower(from.SHA256), format)
	}
	return m.store.Learn(ctx, from.URL, image.Incoming{Format: format, SHA256: from.SHA256, Progress: progress})
}

// RemoveImage implements api.Images.
func (m *images) RemoveImage(ctx context.Context, who api.Identity, name string, force bool, log string) (api.ImageWritten, error) {
	out := api.ImageWritten{Name: name}
	c, err := m.db.Update(ctx, request(who, log), func(tx *hostdb.Tx) error {
		view := tx.View()
		if !view.Exists(image.Namespace, name) {
			return fmt.Errorf("%w: there is no image %s", hostdb.ErrNotFound, name)
		}
		if users := imageUsers(view, name); len(users) > 0 && !force {
			more := ""
			if n := len(users) - 5; n > 0 {
				more = fmt.Sprintf(" and %d more", n)
			}
			return fmt.Errorf("%w: image %s is named by %s%s; machines that are there would go on, but none of these could be made anew: --force removes it all the same",
				hostdb.ErrExists, name, strings.Join(users[:min(len(users), 5)], ", "), more)
		}
		return tx.Delete(image.Namespace, name)
	})
	if err != nil {
		return out, err
	}
	m.log.Info("image removed from the catalogue", "image", name, "user", who.User, "revision", c.Revision.String())
	out.Acks, out.Revision = c.Acks, c.Revision.String()
	return out, nil
}

// imageUsers are the ids of hosts whose VM, and of tags whose Group, names an image, sorted.
func imageUsers(view hostdb.View, name string) []string {
	var users []string
	for host := range view.Keys(hostdb.Hosts) {
		if view.Data(hostdb.Hosts, host).Text("VM", "Image") == name {
			users = append(users, hostdb.Hosts+"/"+host)
		}
	}
	for tag := range view.Keys(hostdb.Tags) {
		if g, _ := section.GroupOf(view.Data(hostdb.Tags, tag)); g != nil && g.Template.Image == name {
			users = append(users, hostdb.Tags+"/"+tag)
		}
	}
	return users
}

const (
	// pushPause is the wait between two questions to a node that does not answer at once.
	pushPause = 200 * time.Millisecond
	// pushPatience is how long a node may be away, or lack the entry of the catalogue.
	pushPatience = 30 * time.Second
)

// PushImage implements api.Images.
func (m *images) PushImage(ctx context.Context, who api.Identity, name string, nodes []string, tell func(api.ImagePush)) error {
	img, err := image.Get(m.db.View(), name)
	if err != nil {
		return imageError(err)
	}
	if err := m.may(who, name, ""); err != nil {
		return err
	}
	mv := m.mesh.View()
	names := map[string]string{} // by id
	var ids []string
	if len(nodes) == 0 {
		for x := range mv.Alive() {
			ids, names[x.ID] = append(ids, x.ID), x.Name
		}
	}
	for _, node := range nodes {
		x, err := findMember(mv, node)
		if err != nil {
			return err
		}
		if names[x.ID] == "" {
			ids, names[x.ID] = append(ids, x.ID), x.Name
		}
	}
	m.log.Info("image pushed", "image", name, "nodes", len(ids), "user", who.User)
	var mu sync.Mutex
	m.each(ctx, ids, func(ctx context.Context, node string) {
		m.push(ctx, node, img, func(p api.ImagePush) {
			p.Node, p.From, p.Error = names[node], m.people(p.From), m.people(p.Error)
			mu.Lock()
			defer mu.Unlock()
			tell(p)
		})
	})
	return ctx.Err()
}

// push has one node fetch an image.
func (m *images) push(ctx context.Context, node string, img image.Image, tell func(api.ImagePush)) {
	good := time.Now() // when it last did something
	for {
		ask, cancel := context.WithTimeout(ctx, imageAsk)
		a, err := image.AskFetch(ask, imagePeers{m}, node, img)
		cancel()
		var remote *mesh.RemoteError
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &remote) && remote.Code == codeNoImages:
			tell(api.ImagePush{None: true})
			return
		case errors.Is(err, mesh.ErrNoHandler):
			tell(api.ImagePush{Error: "it runs an older hostmesh, which has no images"})
			return
		case err == nil && a.Failed != "":
			tell(api.ImagePush{Error: a.Failed})
			return
		case err == nil && a.Here:
			tell(api.ImagePush{Here: true, Done: a.Done, Total: a.Total})
			return
		case err == nil && a.Total > 0:
			good = time.Now()
			tell(api.ImagePush{Done: a.Done, Total: a.Total, From: a.From})
			continue // it has taken its time to answer
		case time.Since(good) > pushPatience && err != nil:
			tell(api.ImagePush{Error: err.Error()})
			return
		case time.Since(good) > pushPatience:
			tell(api.ImagePush{Error: "its catalogue has another image of that name, or none, for " + pushPatience.String()})
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pushPause):
		}
	}
}

// findMember is the member with an id, a name, or the first label of a name.
func findMember(mv mesh.View, text string) (mesh.Member, error) {
	if x, ok := mv.Get(text); ok {
		return x, nil
	}
	var found []mesh.Member
	for _, x := range mv.Members() {
		if first, _, _ := strings.Cut(x.Name, "."); x.Name == text || first == text {
			found = append(found, x)
		}
	}
	switch len(found) {
	case 0:
		return mesh.Member{}, fmt.Errorf("%w: no member of the mesh is called %s; hostmesh members lists them", api.ErrNotFound, text)
	case 1:
		return found[0], nil
	}
	return mesh.Member{}, fmt.Errorf("%w: %s; name one by its id, which hostmesh members -o json shows", api.ErrAmbiguous, text)
}
