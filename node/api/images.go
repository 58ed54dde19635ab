package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

var (
	// ErrBadImage is wrapped by errors of Images about what was sent: it cannot be an image, or is not what it should be.
	ErrBadImage = errors.New("not a usable image")
	// ErrNoSpace is wrapped by errors about a full file system.
	ErrNoSpace = errors.New("not enough space")
	// ErrNoImages is wrapped by errors of a node that keeps no images.
	ErrNoImages = errors.New("this node keeps no images")
)

// Images are the base images of the mesh, and the files of this node. Errors wrap ErrNotFound, the sentinels above,
// ErrUpstream for what another server did, and hostdb's.
type Images interface {
	// Images is the catalogue, sorted by name, entries that cannot be read included.
	Images(ctx context.Context) ([]Image, error)
	// Image is one of them.
	Image(ctx context.Context, name string) (Image, error)
	// MayAddImage refuses who may not add an image of this name here, before anything long is done.
	MayAddImage(who Identity, name string) error
	// TakeImageFile stores a file that may become part of the image of this name; without AddImage it goes after an hour.
	// progress is called by one goroutine at a time.
	TakeImageFile(ctx context.Context, who Identity, name string, body io.Reader, up ImageUpload, progress func(ImageProgress)) (ImageFile, error)
	// AddImage enters an image, after it has fetched what is named by URL.
	AddImage(ctx context.Context, who Identity, name string, wish ImageWish, progress func(ImageProgress)) (ImageWritten, error)
	// RemoveImage takes an image out of the catalogue. Files go later, where no machine needs them.
	RemoveImage(ctx context.Context, who Identity, name string, force bool, log string) (ImageWritten, error)
	// PushImage has nodes fetch an image now: those named by name or id, or all that keep images. It tells how each of them
	// is doing, by one goroutine at a time, and ends when all are done.
	PushImage(ctx context.Context, who Identity, name string, nodes []string, tell func(ImagePush)) error
	// VerifyImage has nodes read the files of an image through. It tells how each of them is doing, by one goroutine at a time,
	// and ends when all are done.
	VerifyImage(ctx context.Context, who Identity, name string, order ImageCheckOrder, tell func(ImageCheck)) error
}

// Image is one entry of the catalogue, and where its files are.
type Image struct {
	Name        string     `json:"name"`
	Format      string     `json:"format,omitempty" doc:"qcow2, raw, or kernel: no disk"`
	Size        int64      `json:"size,omitempty" doc:"Bytes of all files"`
	VirtualSize int64      `json:"virtual_size,omitempty" doc:"Bytes of the disk that a guest sees"`
	ID          string     `json:"id,omitempty" doc:"SHA-256 of the only file, or over those of all; reports name it"`
	Disk        *ImageFile `json:"disk,omitempty"`
	Kernel      *ImageFile `json:"kernel,omitempty"`
	Initrd      *ImageFile `json:"initrd,omitempty"`
	Cmdline     string     `json:"cmdline,omitempty" doc:"Template of the kernel's command line"`
	Modified    *time.Time `json:"modified,omitempty" doc:"When the entry was last written"`
	Broken      string     `json:"broken,omitempty" doc:"Why the entry cannot be used; then only the name is known"`
	Unknown     []string   `json:"unknown,omitempty" doc:"Keys of the entry that mean nothing"`
	Nodes       []string   `json:"nodes" nullable:"false" doc:"Names of the live nodes that have all of it, verified"`
	Fetching    *ImageWay  `json:"fetching,omitempty" doc:"How far this node is with fetching it, or why the last attempt failed"`
	Hosts       int        `json:"hosts" doc:"Hosts whose VM names it"`
}

// ImageFile is one file of an image.
type ImageFile struct {
	SHA256      string `json:"sha256"`
	Size        int64  `json:"size" doc:"Bytes"`
	URL         string `json:"url,omitempty" doc:"Where it may be fetched"`
	Format      string `json:"format,omitempty"`
	VirtualSize int64  `json:"virtual_size,omitempty"`
}

// ImageWay is how far a fetch is.
type ImageWay struct {
	Done  int64  `json:"done" doc:"Bytes"`
	Total int64  `json:"total" doc:"Bytes"`
	From  string `json:"from,omitempty"`
	Error string `json:"error,omitempty" doc:"Why the last attempt failed"`
}

// ImagesBody is the answer of GET /api/v1/images.
type ImagesBody struct {
	Images []Image `json:"images" nullable:"false"`
}

// ImageUpload is what is known of a file that is sent.
type ImageUpload struct {
	Format string // qcow2, raw, kernel; "" = told by its first bytes
	SHA256 string // what it must have; "" = anything
	Size   int64  // bytes; 0 = not known
}

// ImageSource is where a part of a new image comes from: a URL, or a file that was sent before.
type ImageSource struct {
	URL    string `json:"url,omitempty" maxLength:"2048" doc:"The node fetches it, and others may later"`
	SHA256 string `json:"sha256,omitempty" maxLength:"64" doc:"What it must have. Without a URL: of a file that was sent to this node before"`
}

// ImageWish is what POST /api/v1/images/{name} is sent.
type ImageWish struct {
	Format  string       `json:"format,omitempty" enum:"qcow2,raw,kernel" doc:"Default: kernel without a disk, else what the disk's first bytes tell"`
	Disk    *ImageSource `json:"disk,omitempty"`
	Kernel  *ImageSource `json:"kernel,omitempty"`
	Initrd  *ImageSource `json:"initrd,omitempty"`
	Cmdline string       `json:"cmdline,omitempty" maxLength:"2048" doc:"Template of the kernel's command line, with {ip}, {gateway}, {netmask}, {prefix}, {hostname}, {mac} and {uuid}"`
	Replace bool         `json:"replace,omitempty" doc:"Replace an image of this name that is another"`
	Log     string       `json:"log" maxLength:"4096" doc:"Why, for those who read the history"`
}

// ImageProgress is how far something is that takes its time.
type ImageProgress struct {
	What  string `json:"what" doc:"What is being done, such as the part of the image"`
	Done  int64  `json:"done" doc:"Bytes"`
	Total int64  `json:"total,omitempty" doc:"Bytes; absent = not known"`
}

// ImageWritten tells what became of a write.
type ImageWritten struct {
	Name     string `json:"name"`
	ID       string `json:"id,omitempty"`
	Created  bool   `json:"created,omitempty" doc:"True when there was none of this name"`
	Revision string `json:"revision,omitempty" doc:"Absent when nothing changed"`
	Acks     int    `json:"acks" doc:"Boxes that hold the write, this one included"`
}

// ImagePush is how one node is doing with a fetch that it was told.
type ImagePush struct {
	Node  string `json:"node" doc:"Name of the node"`
	Here  bool   `json:"here,omitempty" doc:"It has the image, verified"`
	None  bool   `json:"none,omitempty" doc:"It keeps no images"`
	Error string `json:"error,omitempty" doc:"Why it cannot have it"`
	Done  int64  `json:"done" doc:"Bytes"`
	Total int64  `json:"total" doc:"Bytes"`
	From  string `json:"from,omitempty"`
}

// ImageOrder is what POST /api/v1/images/{name}/push is sent.
type ImageOrder struct {
	Nodes []string `json:"nodes,omitempty" maxItems:"10000" doc:"Names or ids; absent: all live nodes that keep images"`
}

// ImageCheckOrder is what POST /api/v1/images/{name}/verify is sent.
type ImageCheckOrder struct {
	Nodes []string `json:"nodes,omitempty" maxItems:"10000" doc:"Names or ids; absent: the node that is asked"`
	All   bool     `json:"all,omitempty" doc:"All live nodes, where no nodes are named"`
}

// ImageCheck is how one node is doing with reading an image through. One of Good, Missing, None and Error is set when it is done.
type ImageCheck struct {
	Node    string `json:"node" doc:"Name of the node"`
	Good    bool   `json:"good,omitempty" doc:"Every byte was read, and the checksum is that of the catalogue"`
	Missing bool   `json:"missing,omitempty" doc:"It has not all files of the image"`
	None    bool   `json:"none,omitempty" doc:"It keeps no images"`
	Error   string `json:"error,omitempty" doc:"What is wrong with a file, or why it cannot be read"`
	Done    int64  `json:"done" doc:"Bytes"`
	Total   int64  `json:"total" doc:"Bytes"`
}

// Over reports whether the node is done.
func (c ImageCheck) Over() bool { return c.Good || c.Missing || c.None || c.Error != "" }

// ImageRecord is one line of an answer that takes its time. Error, if any, stands in the last.
type ImageRecord struct {
	Progress *ImageProgress   `json:"progress,omitempty"`
	File     *ImageFile       `json:"file,omitempty"`
	Written  *ImageWritten    `json:"written,omitempty"`
	Push     *ImagePush       `json:"push,omitempty"`
	Check    *ImageCheck      `json:"check,omitempty"`
	End      bool             `json:"end,omitempty" doc:"True in the last line; an answer without it broke off"`
	Error    *huma.ErrorModel `json:"error,omitempty"`
}

// lastWords is how long a client that sends may take to read that nothing more is wanted.
const lastWords = 3 * time.Second

const octetType = "application/octet-stream"

func registerImages(a huma.API, im Images) {
	record := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ImageRecord](), true, "")
	lines := map[string]*huma.Response{"200": {
		Description: "Progress, and in the last line the end",
		Content:     map[string]*huma.MediaType{ndjsonType: {Schema: record}},
	}}
	const slow = " The answer is a line of JSON for each step. Because it begins before the work ends, its status is 200 even if the work fails: the last line says so in error."
	huma.Register(a, huma.Operation{
		OperationID: "list-images", Method: http.MethodGet, Path: "/api/v1/images",
		Summary: "Base images", Tags: []string{"images"},
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[ImagesBody], error) {
		list, err := im.Images(ctx)
		if err != nil {
			return nil, imageProblem(err)
		}
		if list == nil {
			list = []Image{}
		}
		return &bodyOf[ImagesBody]{Body: ImagesBody{Images: list}}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "get-image", Method: http.MethodGet, Path: "/api/v1/images/{name}",
		Summary: "One base image", Tags: []string{"images"},
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"128" doc:"Name of the image" example:"debian-12"`
	}) (*bodyOf[Image], error) {
		one, err := im.Image(ctx, in.Name)
		if err != nil {
			return nil, imageProblem(err)
		}
		return &bodyOf[Image]{Body: one}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "send-image-file", Method: http.MethodPost, Path: "/api/v1/images/{name}/files",
		Summary: "Send a file that becomes part of an image", Tags: []string{"images"}, Security: writeSecurity,
		Description: "The node hashes and keeps it; without an image that has it, it goes after an hour." + slow,
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			octetType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		Responses: lines,
	}, func(ctx context.Context, in *struct {
		Name   string `path:"name" maxLength:"128" doc:"Name of the image" example:"debian-12"`
		Format string `query:"format" enum:"qcow2,raw,kernel" doc:"Default: qcow2 or raw, as its first bytes tell; kernel stands for kernels and initrds"`
		SHA256 string `query:"sha256" maxLength:"64" doc:"What it must have"`
		Size   int64  `query:"size" minimum:"0" doc:"Bytes, so that the space is kept from the beginning"`
	}) (*huma.StreamResponse, error) {
		who := identityOf(ctx)
		if err := im.MayAddImage(who, in.Name); err != nil {
			return nil, imageProblem(err)
		}
		return inLines(func(r *http.Request, body io.Reader, send func(ImageRecord)) error {
			file, err := im.TakeImageFile(r.Context(), who, in.Name, body, ImageUpload{in.Format, in.SHA256, in.Size}, func(p ImageProgress) { send(ImageRecord{Progress: &p}) })
			if err == nil {
				send(ImageRecord{File: &file})
			}
			return err
		}), nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "add-image", Method: http.MethodPost, Path: "/api/v1/images/{name}",
		Summary: "Enter a base image", Tags: []string{"images"}, Security: writeSecurity, Responses: lines,
		Description: "What is named by URL is fetched first, to learn its size and checksum." + slow,
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"128" doc:"Name of the image" example:"debian-12"`
		Body ImageWish
	}) (*huma.StreamResponse, error) {
		if strings.TrimSpace(in.Body.Log) == "" {
			return nil, errNoLog()
		}
		who := identityOf(ctx)
		if err := im.MayAddImage(who, in.Name); err != nil {
			return nil, imageProblem(err)
		}
		return inLines(func(r *http.Request, _ io.Reader, send func(ImageRecord)) error {
			out, err := im.AddImage(r.Context(), who, in.Name, in.Body, func(p ImageProgress) { send(ImageRecord{Progress: &p}) })
			if err == nil {
				send(ImageRecord{Written: &out})
			}
			return err
		}), nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "remove-image", Method: http.MethodDelete, Path: "/api/v1/images/{name}",
		Summary: "Take a base image out of the catalogue", Tags: []string{"images"}, Security: writeSecurity,
		Description: "Machines that were made from it go on. Its files go later, where no machine needs them.",
	}, func(ctx context.Context, in *struct {
		Name  string `path:"name" maxLength:"128" doc:"Name of the image" example:"debian-12"`
		Force bool   `query:"force" doc:"Although hosts name it"`
		Log   string `query:"log" required:"true" maxLength:"4096" doc:"Why, for those who read the history"`
	}) (*bodyOf[ImageWritten], error) {
		if strings.TrimSpace(in.Log) == "" {
			return nil, errNoLog()
		}
		out, err := im.RemoveImage(ctx, identityOf(ctx), in.Name, in.Force, in.Log)
		if err != nil {
			return nil, imageProblem(err)
		}
		return &bodyOf[ImageWritten]{Body: out}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "push-image", Method: http.MethodPost, Path: "/api/v1/images/{name}/push",
		Summary: "Have nodes fetch an image now", Tags: []string{"images"}, Security: writeSecurity, Responses: lines,
		Description: "Each line tells how one node is doing." + slow,
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"128" doc:"Name of the image" example:"debian-12"`
		Body ImageOrder
	}) (*huma.StreamResponse, error) {
		who := identityOf(ctx)
		return inLines(func(r *http.Request, _ io.Reader, send func(ImageRecord)) error {
			return im.PushImage(r.Context(), who, in.Name, in.Body.Nodes, func(p ImagePush) { send(ImageRecord{Push: &p}) })
		}), nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "verify-image", Method: http.MethodPost, Path: "/api/v1/images/{name}/verify",
		Summary: "Have nodes read an image through, and compare its checksums", Tags: []string{"images"}, Security: writeSecurity, Responses: lines,
		Description: "Each line tells how one node is doing. A file that is not what it should be is not used any more: push has the node fetch it again." + slow,
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"128" doc:"Name of the image" example:"debian-12"`
		Body ImageCheckOrder
	}) (*huma.StreamResponse, error) {
		who := identityOf(ctx)
		return inLines(func(r *http.Request, _ io.Reader, send func(ImageRecord)) error {
			return im.VerifyImage(r.Context(), who, in.Name, in.Body, func(c ImageCheck) { send(ImageRecord{Check: &c}) })
		}), nil
	})
}

// imageProblem tells a client what an error of Images means for it.
func imageProblem(err error) *huma.ErrorModel {
	p := problemOf(err)
	switch {
	case errors.Is(err, ErrNoSpace):
		p.Status = http.StatusInsufficientStorage
	case errors.Is(err, ErrNoImages):
		p.Status = http.StatusServiceUnavailable
	case errors.Is(err, ErrAmbiguous):
		p.Status = http.StatusConflict
	case errors.Is(err, ErrBadImage):
		p.Status = http.StatusBadRequest
	default:
		return p
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// inLines is an answer of lines that are sent while work is done. Progress is sent a few times a second at most; what else is
// sent, and the end, always.
func inLines(work func(r *http.Request, body io.Reader, send func(ImageRecord)) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		rc := http.NewResponseController(w)
		body := &idleReader{r: r.Body, rc: rc}
		// The server watches the connection by reading on; the deadline of a quick request would end a long one.
		_ = rc.SetReadDeadline(time.Time{})
		duplex := rc.EnableFullDuplex() == nil
		w.Header().Set("Content-Type", ndjsonType)
		if duplex && r.Header.Get("Expect") == "" { // else nothing would be sent any more
			_ = rc.Flush()
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		var last time.Time
		send := func(rec ImageRecord) {
			if rec.Progress != nil {
				now := time.Now()
				if !duplex && !body.ended || now.Sub(last) < progressEvery {
					return
				}
				last = now
			}
			// As in an import: who does not read is gone.
			_ = rc.SetWriteDeadline(time.Now().Add(importIdle))
			_ = enc.Encode(rec)
			_ = rc.Flush()
		}
		end := ImageRecord{End: true}
		if err := work(r, body, send); err != nil {
			end.Error = imageProblem(err)
		}
		send(end)
		if end.Error != nil && !body.ended {
			// Who still sends would find the connection broken, and not read why.
			_ = rc.SetReadDeadline(time.Now().Add(lastWords))
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}}
}

// Images asks for the catalogue.
func (c *Client) Images(ctx context.Context) ([]Image, error) {
	var out ImagesBody
	err := c.getJSON(ctx, "/api/v1/images", &out)
	return out.Images, err
}

// Image asks for one base image.
func (c *Client) Image(ctx context.Context, name string) (Image, error) {
	var out Image
	err := c.getJSON(ctx, imagePath(name), &out)
	return out, err
}

// SendImageFile sends a file that becomes part of an image. progress may be nil.
func (c *Client) SendImageFile(ctx context.Context, name string, body io.Reader, up ImageUpload, progress func(ImageProgress)) (ImageFile, error) {
	query := url.Values{}
	if up.Format != "" {
		query.Set("format", up.Format)
	}
	if up.SHA256 != "" {
		query.Set("sha256", up.SHA256)
	}
	if up.Size > 0 {
		query.Set("size", fmt.Sprint(up.Size))
	}
	var out ImageFile
	err := c.imageLines(ctx, imagePath(name)+"/files", query, octetType, body, func(r ImageRecord) {
		if r.Progress != nil && progress != nil {
			progress(*r.Progress)
		}
		if r.File != nil {
			out = *r.File
		}
	})
	return out, err
}

// AddImage enters a base image. progress may be nil.
func (c *Client) AddImage(ctx context.Context, name string, wish ImageWish, progress func(ImageProgress)) (ImageWritten, error) {
	var out ImageWritten
	text, err := json.Marshal(wish)
	if err != nil {
		return out, fmt.Errorf("encode a request: %w", err)
	}
	err = c.imageLines(ctx, imagePath(name), nil, "application/json", strings.NewReader(string(text)), func(r ImageRecord) {
		if r.Progress != nil && progress != nil {
			progress(*r.Progress)
		}
		if r.Written != nil {
			out = *r.Written
		}
	})
	return out, err
}

// RemoveImage takes a base image out of the catalogue.
func (c *Client) RemoveImage(ctx context.Context, name string, force bool, log string) (ImageWritten, error) {
	var out ImageWritten
	query := url.Values{"log": {log}}
	if force {
		query.Set("force", "true")
	}
	body, _, err := c.roundTrip(ctx, http.MethodDelete, imagePath(name), query, "", nil)
	if err != nil {
		return out, err
	}
	return out, c.decode(body, &out)
}

// PushImage has nodes fetch an image; tell hears how each is doing.
func (c *Client) PushImage(ctx context.Context, name string, nodes []string, tell func(ImagePush)) error {
	text, err := json.Marshal(ImageOrder{Nodes: nodes})
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	return c.imageLines(ctx, imagePath(name)+"/push", nil, "application/json", strings.NewReader(string(text)), func(r ImageRecord) {
		if r.Push != nil {
			tell(*r.Push)
		}
	})
}

// VerifyImage has nodes read an image through; tell hears how each is doing.
func (c *Client) VerifyImage(ctx context.Context, name string, order ImageCheckOrder, tell func(ImageCheck)) error {
	text, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	return c.imageLines(ctx, imagePath(name)+"/verify", nil, "application/json", strings.NewReader(string(text)), func(r ImageRecord) {
		if r.Check != nil {
			tell(*r.Check)
		}
	})
}

// imageLines sends a request and reads the lines of its answer to the end.
func (c *Client) imageLines(ctx context.Context, path string, query url.Values, contentType string, body io.Reader, line func(ImageRecord)) error {
	header := http.Header{}
	if contentType == octetType {
		header.Set("Expect", "100-continue") // gigabytes that are refused are not sent
	}
	resp, err := c.doWith(ctx, http.MethodPost, path, query, contentType, body, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var rec ImageRecord
		if err := dec.Decode(&rec); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("the answer of %s broke off: %w", c.Where(), err)
		}
		switch {
		case rec.Error != nil:
			return &Error{Status: rec.Error.Status, Message: problemText(rec.Error)}
		case rec.End:
			return nil
		}
		line(rec)
	}
}

func imagePath(name string) string { return "/api/v1/images/" + url.PathEscape(name) }
