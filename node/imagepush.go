package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"hostmesh/mesh"
	"hostmesh/node/api"
	"hostmesh/vmd/image"
)

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
	ids, names, err := m.ordered(nodes, true)
	if err != nil {
		return err
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

// ordered are the ids and the names of the nodes that an order is for: those named, or else all that live, or this one.
func (m *images) ordered(nodes []string, all bool) (ids []string, names map[string]string, err error) {
	mv := m.mesh.View()
	names = map[string]string{} // by id
	add := func(x mesh.Member) {
		if _, twice := names[x.ID]; !twice {
			ids, names[x.ID] = append(ids, x.ID), x.Name
		}
	}
	switch {
	case len(nodes) > 0:
		for _, node := range nodes {
			x, err := findMember(mv, node)
			if err != nil {
				return nil, nil, err
			}
			add(x)
		}
	case all:
		for x := range mv.Alive() {
			add(x)
		}
	default:
		add(mv.Self())
	}
	return ids, names, nil
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
