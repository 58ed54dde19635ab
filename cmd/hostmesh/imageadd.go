package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hostmesh/node/api"
)

// imageAdder is one image add.
type imageAdder struct {
	*app
	client               *api.Client
	bar                  *progress
	name                 string
	wish                 api.ImageWish
	disk, kernel, initrd string // a file or a URL; "" = none
	sum                  string // of the disk
}

func (a *app) imageAddCommand() *cobra.Command {
	x := imageAdder{app: a}
	cmd := &cobra.Command{
		Use:   "add NAME [FILE|URL]",
		Short: "Add an image",
		Long: `Adds a base image to the catalogue. A FILE of this box is sent to the agent,
which keeps it; other boxes take it from there. A URL is fetched once by the
agent, to learn its size and checksum; --sha256 says what it must be. Other
boxes take it from any box that has it, or else from the URL.

A disk is qcow2 or raw; without --format its first bytes tell which. A qcow2
file that grows from another file, keeps its data in another, or is encrypted
is refused: it would read files of the boxes.

--kernel and --initrd boot a kernel directly, with or without a disk; each is a
file or a URL. --cmdline is the kernel's command line. In it, {ip}, {gateway},
{netmask}, {prefix}, {hostname}, {mac} and {uuid} stand for what a machine has.

The same image again changes nothing. A different one of that name is refused
without --replace; machines that are there keep what they have. The first image
makes the namespace images, for which it takes an administrator.`,
		Example: `  hostmesh image add debian-12 debian-12-genericcloud-amd64.qcow2 -m "what new machines grow from"
  hostmesh image add debian-13 https://images.example.com/debian-13.qcow2 --sha256 SUM -m "try it"
  hostmesh image add tiny --kernel vmlinuz --initrd tiny.cpio.gz -m "to test with" \
    --cmdline "console=ttyS0 ip={ip}::{gateway}:{netmask}:{hostname}:eth0:off"`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if err := needMessage(x.wish.Log); err != nil {
				return err
			}
			if x.name = args[0]; len(args) == 2 {
				x.disk = args[1]
			}
			return x.run(ctx)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&x.sum, "sha256", "", "the `SUM` that the disk must have, in hex")
	flags.StringVar(&x.wish.Format, "format", "", "`FORMAT` of the disk: qcow2 or raw")
	flags.StringVar(&x.kernel, "kernel", "", "`FILE` or URL of a kernel to boot directly")
	flags.StringVar(&x.initrd, "initrd", "", "`FILE` or URL of its initial RAM disk")
	flags.StringVar(&x.wish.Cmdline, "cmdline", "", "`TEMPLATE` of the kernel's command line")
	flags.BoolVar(&x.wish.Replace, "replace", false, "replace an image of this name that is another")
	messageFlag(cmd, &x.wish.Log, "why, for those who read the history")
	a.outputFlag(cmd)
	return cmd
}

func (x *imageAdder) run(ctx context.Context) error {
	switch {
	case x.disk == "" && x.kernel == "":
		return usagef("what the image is made of is missing: name a file or a URL, or give --kernel")
	case x.disk == "" && (x.sum != "" || x.wish.Format != ""):
		return usagef("--sha256 and --format are about a disk, and there is none")
	case x.kernel == "" && (x.initrd != "" || x.wish.Cmdline != ""):
		return usagef("--initrd and --cmdline do nothing without --kernel")
	case x.wish.Format != "" && x.wish.Format != "qcow2" && x.wish.Format != "raw":
		return usagef("--format %s: a disk is qcow2 or raw", x.wish.Format)
	}
	c, err := x.app.client()
	if err != nil {
		return err
	}
	defer c.Close()
	x.client, x.bar = c, newProgress(x.stderr)
	defer x.bar.end()

	same, err := x.already(ctx)
	if err != nil {
		return explain(err)
	}
	if same != nil {
		x.bar.end()
		return x.told(*same)
	}
	format := x.wish.Format
	for _, part := range []struct {
		from, sum string
		format    *string
		into      **api.ImageSource
	}{{x.disk, x.sum, &format, &x.wish.Disk}, {x.kernel, "", nil, &x.wish.Kernel}, {x.initrd, "", nil, &x.wish.Initrd}} {
		if part.from == "" {
			continue
		}
		if isURL(part.from) {
			*part.into = &api.ImageSource{URL: part.from, SHA256: part.sum}
			continue
		}
		up := api.ImageUpload{Format: "kernel", SHA256: part.sum}
		if part.format != nil {
			up.Format = *part.format
		}
		f, err := x.send(ctx, part.from, up)
		if err != nil {
			return explain(err)
		}
		*part.into = &api.ImageSource{SHA256: f.SHA256}
	}
	out, err := x.client.AddImage(ctx, x.name, x.wish, func(p api.ImageProgress) { x.bar.bytes(p.What, p.Done, p.Total) })
	x.bar.end()
	if err != nil {
		return explain(err)
	}
	return x.told(out)
}

func (x *imageAdder) told(out api.ImageWritten) error {
	return x.print(out, func(w io.Writer) {
		switch {
		case out.Revision == "":
			row(w, fmt.Sprintf("image %s is there already; nothing changed", out.Name))
		case out.Created:
			row(w, fmt.Sprintf("image %s added: %s", out.Name, out.ID))
		default:
			row(w, fmt.Sprintf("image %s replaced: %s", out.Name, out.ID))
		}
	})
}

// already compares an image of files with one of the same name, before gigabytes are sent: it is the same, or it is refused.
// nil without an error: it is to be sent.
func (x *imageAdder) already(ctx context.Context) (*api.ImageWritten, error) {
	if x.wish.Replace || isURL(x.disk) || isURL(x.kernel) || isURL(x.initrd) {
		return nil, nil
	}
	ctx, cancel := x.withTimeout(ctx)
	defer cancel()
	old, err := x.client.Image(ctx, x.name)
	if errors.Is(err, api.ErrNotFound) || err == nil && old.Broken != "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same := old.Cmdline == x.wish.Cmdline && (x.wish.Format == "" || x.wish.Format == old.Format)
	for _, part := range []struct {
		file string
		old  *api.ImageFile
	}{{x.disk, old.Disk}, {x.kernel, old.Kernel}, {x.initrd, old.Initrd}} {
		if !same || (part.file == "") != (part.old == nil) {
			same = false
			break
		}
		if part.file == "" {
			continue
		}
		sum, err := x.hash(part.file, part.old.Size)
		if err != nil {
			return nil, err
		}
		same = sum == part.old.SHA256
	}
	if !same {
		return nil, fmt.Errorf("image %s is there and is another; --replace puts this one in its place (machines that are there keep what they have), or take another name", x.name)
	}
	return &api.ImageWritten{Name: x.name, ID: old.ID}, nil
}

// hash is the SHA-256 of a file; "" when its size is another.
func (x *imageAdder) hash(name string, size int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() != size {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, &countingReader{r: f, tell: func(n int64) { x.bar.bytes("comparing", n, size) }}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// countingReader tells how much was read.
type countingReader struct {
	r    io.Reader
	n    int64
	tell func(n int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}

// send sends a file of this box.
func (x *imageAdder) send(ctx context.Context, name string, up api.ImageUpload) (api.ImageFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return api.ImageFile{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return api.ImageFile{}, err
	}
	if fi.IsDir() {
		return api.ImageFile{}, fmt.Errorf("%s is a directory", name)
	}
	if fi.Mode().IsRegular() {
		up.Size = fi.Size()
	}
	body := &countingReader{r: f, tell: func(n int64) { x.bar.bytes("sending", n, up.Size) }}
	// Its own type: net/http would close a file under the one who still reads it.
	out, err := x.client.SendImageFile(ctx, x.name, io.NopCloser(body), up, nil)
	if err != nil {
		return out, fmt.Errorf("send %s: %w", name, err)
	}
	return out, nil
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}
