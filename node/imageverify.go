package node

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"hostmesh/mesh"
	"hostmesh/node/api"
	"hostmesh/vmd/image"
)

// VerifyImage implements api.Images.
func (m *images) VerifyImage(ctx context.Context, who api.Identity, name string, order api.ImageCheckOrder, tell func(api.ImageCheck)) error {
	img, err := image.Get(m.db.View(), name)
	if err != nil {
		return imageError(err)
	}
	if err := m.may(who, name, ""); err != nil {
		return err
	}
	ids, names, err := m.ordered(order.Nodes, order.All)
	if err != nil {
		return err
	}
	m.log.Info("image to be read through", "image", name, "nodes", len(ids), "user", who.User)
	run := rand.Text()
	var mu sync.Mutex
	m.each(ctx, ids, func(ctx context.Context, node string) {
		m.verify(ctx, node, run, img, func(c api.ImageCheck) {
			c.Node, c.Error = names[node], m.people(c.Error)
			mu.Lock()
			defer mu.Unlock()
			tell(c)
		})
	})
	return ctx.Err()
}

// verify has one node read an image through.
func (m *images) verify(ctx context.Context, node, run string, img image.Image, tell func(api.ImageCheck)) {
	good := time.Now() // when it last answered
	for {
		ask, cancel := context.WithTimeout(ctx, imageAsk)
		a, err := image.AskVerify(ask, imagePeers{m}, node, run, img)
		cancel()
		var remote *mesh.RemoteError
		end := api.ImageCheck{Done: a.Done, Total: a.Total}
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &remote) && remote.Code == codeNoImages:
			end.None = true
		case errors.Is(err, mesh.ErrNoHandler):
			end.Error = "it runs an older hostmesh, which cannot do that"
		case err != nil && time.Since(good) > pushPatience:
			end.Error = err.Error()
		case err != nil:
			select {
			case <-ctx.Done():
				return
			case <-time.After(pushPause):
			}
			continue
		case a.Failed != "":
			end.Error = a.Failed
		case a.Missing:
			end.Missing = true
		case a.Good:
			end.Good = true
		default:
			good = time.Now()
			tell(end)
			continue // it has taken its time to answer
		}
		tell(end)
		return
	}
}
