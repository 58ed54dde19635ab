package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/node/api"
	"hostmesh/vmd/image"
)

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
