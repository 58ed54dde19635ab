package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fakeImages has one image, takes files of at most four bytes, and pushes to two nodes.
type fakeImages struct{}

func (fakeImages) Images(context.Context) ([]Image, error) {
	return []Image{{Name: "debian", Format: "qcow2", Nodes: []string{"box1"}}}, nil
}

func (fakeImages) Image(_ context.Context, name string) (Image, error) {
	if name != "debian" {
		return Image{}, fmt.Errorf("%w: image %s", ErrNotFound, name)
	}
	return Image{Name: name, Nodes: []string{}}, nil
}

func (fakeImages) MayAddImage(_ Identity, name string) error {
	if name == "nowhere" {
		return fmt.Errorf("%w: set vm.dir", ErrNoImages)
	}
	return nil
}

func (fakeImages) TakeImageFile(_ context.Context, _ Identity, _ string, body io.Reader, _ ImageUpload, progress func(ImageProgress)) (ImageFile, error) {
	b, err := io.ReadAll(io.LimitReader(body, 4))
	if err != nil {
		return ImageFile{}, err
	}
	progress(ImageProgress{What: "receiving", Done: int64(len(b))})
	if len(b) == 4 {
		return ImageFile{}, fmt.Errorf("%w: 4 bytes", ErrNoSpace)
	}
	return ImageFile{SHA256: "sum of " + string(b), Size: int64(len(b))}, nil
}

func (fakeImages) AddImage(_ context.Context, _ Identity, name string, wish ImageWish, progress func(ImageProgress)) (ImageWritten, error) {
	progress(ImageProgress{What: "fetching", Done: 1, Total: 2})
	if wish.Disk == nil {
		return ImageWritten{}, fmt.Errorf("%w: no disk", ErrBadImage)
	}
	return ImageWritten{Name: name, ID: wish.Disk.SHA256, Created: true}, nil
}

func (fakeImages) RemoveImage(_ context.Context, _ Identity, name string, _ bool, _ string) (ImageWritten, error) {
	return ImageWritten{Name: name}, nil
}

func (fakeImages) PushImage(_ context.Context, _ Identity, _ string, nodes []string, tell func(ImagePush)) error {
	for _, n := range nodes {
		tell(ImagePush{Node: n, Here: true})
	}
	return nil
}

func (fakeImages) VerifyImage(_ context.Context, _ Identity, name string, order ImageCheckOrder, tell func(ImageCheck)) error {
	if name != "debian" {
		return fmt.Errorf("%w: image %s", ErrNotFound, name)
	}
	for _, n := range order.Nodes {
		tell(ImageCheck{Node: n, Done: 1, Total: 2})
		tell(ImageCheck{Node: n, Error: "wrong checksum", Done: 2, Total: 2})
	}
	return nil
}

func TestImageCalls(t *testing.T) {
	srv := httptest.NewServer(NewHandler(Config{
		Images:   fakeImages{},
		Identify: func(*http.Request) (Identity, bool, error) { return Identity{User: "root", Admin: true}, true, nil },
	}))
	defer srv.Close()
	c, err := NewClient(ClientConfig{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	status := func(err error, want int, text string) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Status != want || !strings.Contains(e.Message, text) {
			t.Errorf("got %v, want %d with %q", err, want, text)
		}
	}
	if list, err := c.Images(ctx); err != nil || len(list) != 1 || list[0].Nodes[0] != "box1" {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := c.Image(ctx, "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("show: %v", err)
	}
	var seen int64
	f, err := c.SendImageFile(ctx, "x", strings.NewReader("abc"), ImageUpload{Format: "raw", Size: 3}, func(p ImageProgress) { seen = p.Done })
	if err != nil || f.SHA256 != "sum of abc" || seen != 3 {
		t.Errorf("send: %+v, %v, progress %d", f, err, seen)
	}
	// More than sockets hold: it is not all sent, and the reason comes through all the same.
	big := strings.NewReader(strings.Repeat("x", 32<<20))
	_, err = c.SendImageFile(ctx, "nowhere", big, ImageUpload{}, nil)
	status(err, http.StatusServiceUnavailable, "set vm.dir")
	if big.Len() != 32<<20 {
		t.Errorf("%d bytes were sent to a node that keeps no images", 32<<20-big.Len())
	}
	_, err = c.SendImageFile(ctx, "x", big, ImageUpload{}, nil)
	status(err, http.StatusInsufficientStorage, "4 bytes")
	if w, err := c.AddImage(ctx, "x", ImageWish{Disk: &ImageSource{SHA256: "s"}, Log: "why"}, nil); err != nil || !w.Created || w.ID != "s" {
		t.Errorf("add: %+v, %v", w, err)
	}
	_, err = c.AddImage(ctx, "x", ImageWish{Log: "why"}, nil)
	status(err, http.StatusBadRequest, "no disk")
	_, err = c.AddImage(ctx, "x", ImageWish{Log: " "}, nil)
	status(err, http.StatusBadRequest, "log is blank")
	_, err = c.RemoveImage(ctx, "x", false, " ")
	status(err, http.StatusBadRequest, "log is blank")
	var told []string
	if err := c.PushImage(ctx, "x", []string{"a", "b"}, func(p ImagePush) { told = append(told, p.Node) }); err != nil || strings.Join(told, "") != "ab" {
		t.Errorf("push: %v, %v", told, err)
	}
	var checks []ImageCheck
	if err := c.VerifyImage(ctx, "debian", ImageCheckOrder{Nodes: []string{"a"}}, func(x ImageCheck) { checks = append(checks, x) }); err != nil ||
		len(checks) != 2 || checks[0].Over() || !checks[1].Over() || checks[1].Error != "wrong checksum" {
		t.Errorf("verify: %+v, %v", checks, err)
	}
	status(c.VerifyImage(ctx, "none", ImageCheckOrder{}, func(ImageCheck) {}), http.StatusNotFound, "image none")
}
