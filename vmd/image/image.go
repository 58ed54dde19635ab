// Package image owns the base images that virtual machines grow from: what an entry of the catalogue means, the store of
// their files on this box, the ways they come here, when they may go, and the seed with which a guest configures itself.
//
// Disks of machines grow from these files and are the hypervisor's business. Which machine needs which image, and what
// nodes report, is decided by whoever calls. Nothing here asks a hypervisor or qemu what a file is: formats are always
// said, and the one that can name other files (qcow2) is read here, so that an image cannot name a file of the box.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hostmesh/hostdb"
)

// Namespace is where the catalogue stands in HostDB: its keys are the names of images.
const Namespace = "images"

var (
	// ErrBadImage is returned for an entry of the catalogue, and for a file, that cannot be an image.
	ErrBadImage = errors.New("not a usable image")
	// ErrChecksum is returned for bytes that are not those of the catalogue.
	ErrChecksum = errors.New("wrong checksum")
	// ErrNoSource is returned when no peer has an image and it has no URL, or all of them failed.
	ErrNoSource = errors.New("the image cannot be had")
	// ErrNoSpace is returned when the file system of the store has too little room.
	ErrNoSpace = errors.New("not enough space for the image")
	// ErrNotHere is returned for a file that the store does not have.
	ErrNotHere = errors.New("the file is not here")
	// ErrClosed is returned by a store that is closed.
	ErrClosed = errors.New("the image store is closed")
)

// Format is what the disk of an image is.
type Format string

// The formats.
const (
	QCOW2  Format = "qcow2"
	Raw    Format = "raw"
	Kernel Format = "kernel" // no disk: a kernel, mostly with an initrd that holds everything
)

// Bounds of what an entry can say. They stop slips and hostile entries, not images: the largest disk that qemu makes is
// far above all that a box has.
const (
	MaxSize    = 1 << 48 // bytes of a file, and of a virtual disk
	MaxCmdline = 2048    // bytes: what the kernel takes on x86
	maxURL     = 2048
)

// Image is one entry of the catalogue. It is immutable.
type Image struct {
	Name   string
	Format Format
	// Disk is the file that disks grow from; none for the format kernel.
	Disk File
	// VirtualSize is the size of the disk that a guest sees, in bytes. 0 for the format kernel.
	VirtualSize int64
	// Kernel and Initrd are booted directly; without a Kernel, the disk's own boot loader is.
	Kernel, Initrd File
	// Cmdline is a template of the kernel's command line; see Cmdline.
	Cmdline string
	// Unknown are keys of the entry that this version does not know, sorted: slips, or of a newer version.
	Unknown []string
}

// File is one file of an image. The zero File is none.
type File struct {
	SHA256 string // in lower-case hex
	Size   int64  // bytes
	URL    string // where it may be fetched; "" = only from peers
}

// IsZero reports whether there is no such file.
func (f File) IsZero() bool { return f.SHA256 == "" }

// Files are the files of the image, in the order disk, kernel, initrd.
func (i Image) Files() []File {
	var list []File
	for _, f := range []File{i.Disk, i.Kernel, i.Initrd} {
		if !f.IsZero() {
			list = append(list, f)
		}
	}
	return list
}

// Size is the bytes of all files.
func (i Image) Size() int64 {
	var sum int64
	for _, f := range i.Files() {
		sum += f.Size
	}
	return sum
}

// ID names the content: the SHA-256 in hex of its only file, or one over those of all. It is what reports have in
// Box.Images.
func (i Image) ID() string {
	files := i.Files()
	if len(files) == 1 {
		return files[0].SHA256
	}
	h := sha256.New()
	for _, f := range []File{i.Disk, i.Kernel, i.Initrd} {
		fmt.Fprintf(h, "%s\n", f.SHA256) // an empty line is a file that is not there
	}
	return hex.EncodeToString(h.Sum(nil))
}

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`) // as VM.Image of a host takes it
	shaForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckName reports whether a name can be that of an image.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%w: name %q: want letters, digits, dots, dashes and underscores, at most 128, and no dot or dash in front", ErrBadImage, clip(name))
	}
	return nil
}

// CheckSHA256 reports whether text is a SHA-256 in lower-case hex.
func CheckSHA256(text string) error {
	if !shaForm.MatchString(text) {
		return fmt.Errorf("%w: SHA256 %q: want 64 lower-case hex digits, as sha256sum prints them", ErrBadImage, clip(text))
	}
	return nil
}

// CheckURL reports whether text is a URL that files are fetched from. A user or password in it is refused: HostDB shows
// it to everybody.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || len(text) > maxURL || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "":
		return fmt.Errorf("%w: URL %q: want one that begins with http:// or https://, of at most %d bytes", ErrBadImage, showURL(text), maxURL)
	case u.User != nil:
		return fmt.Errorf("%w: URL %s: it has a user or a password, which everybody could read in HostDB; download the file and add that", ErrBadImage, showURL(text))
	}
	return nil
}

// showURL is a URL as errors and logs may have it: without user, query and fragment, where secrets stand.
func showURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(no URL)" // it cannot be told where a secret would stand in it
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	return clip(u.String())
}

// clip is text as it can be shown in a message.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most-3] + "..."
	}
	return text
}

// Get is the image of that name in a view. ErrNotFound of hostdb when there is none; ErrBadImage when its entry is not
// good.
func Get(db hostdb.View, name string) (Image, error) {
	item, ok := db.Get(Namespace, name)
	if !ok {
		return Image{}, fmt.Errorf("image %s: %w: it is not in the catalogue; add it with: hostmesh image add %s FILE|URL", clip(name), hostdb.ErrNotFound, clip(name))
	}
	return Parse(name, item.Data())
}

// Catalogue is every good image of a view, by name, and what is wrong with the others.
func Catalogue(db hostdb.View) (good map[string]Image, bad map[string]error) {
	good = map[string]Image{}
	for name := range db.Keys(Namespace) {
		i, err := Parse(name, db.Data(Namespace, name))
		if err != nil {
			if bad == nil {
				bad = map[string]error{}
			}
			bad[name] = err
			continue
		}
		good[name] = i
	}
	return good, bad
}

// Parse reads an entry of the catalogue. Errors wrap ErrBadImage and name the entry, the place and what is expected
// there.
func Parse(name string, doc hostdb.Document) (Image, error) {
	i := Image{Name: name}
	if err := CheckName(name); err != nil {
		return Image{}, err
	}
	bad := func(where, format string, args ...any) (Image, error) {
		at := Namespace + "/" + name
		if where != "" {
			at += "/" + where
		}
		return Image{}, fmt.Errorf("%w: %s: %s", ErrBadImage, at, fmt.Sprintf(format, args...))
	}
	if !doc.IsMapping() {
		return bad("", "want a mapping with Format, Size and SHA256")
	}
	known := []string{"Format", "Size", "SHA256", "URL", "VirtualSize", "Kernel", "Initrd", "Cmdline"}
	for key := range doc.Keys() {
		if !slices.Contains(known, key) {
			i.Unknown = append(i.Unknown, key)
		}
	}
	slices.Sort(i.Unknown)

	format, there, err := scalar(doc, "Format")
	switch i.Format = Format(format); {
	case err != nil:
		return bad("Format", "%v", err)
	case !there:
		return bad("Format", "is missing; want qcow2, raw or kernel")
	case i.Format != QCOW2 && i.Format != Raw && i.Format != Kernel:
		return bad("Format", "%q is none; want qcow2, raw or kernel", clip(format))
	}
	if i.Cmdline, _, err = scalar(doc, "Cmdline"); err != nil {
		return bad("Cmdline", "%v", err)
	}
	if i.Format == Kernel {
		for _, key := range []string{"Size", "SHA256", "URL", "VirtualSize"} {
			if doc.At(key).Exists() {
				return bad(key, "an image of the format kernel has no disk; put it below Kernel or Initrd")
			}
		}
	} else if i.Disk, err = parseFile(doc); err != nil {
		return bad("", "%v", err)
	}
	for _, part := range []struct {
		key  string
		into *File
	}{{"Kernel", &i.Kernel}, {"Initrd", &i.Initrd}} {
		sub := doc.At(part.key)
		if !sub.Exists() || sub.IsNull() {
			continue
		}
		if !sub.IsMapping() {
			return bad(part.key, "want a mapping with Size and SHA256")
		}
		if *part.into, err = parseFile(sub); err != nil {
			return bad(part.key, "%v", err)
		}
	}
	switch {
	case i.Format == Kernel && i.Kernel.IsZero():
		return bad("Kernel", "is missing; an image of the format kernel has one")
	case i.Kernel.IsZero() && !i.Initrd.IsZero():
		return bad("Initrd", "does nothing without a Kernel")
	case i.Kernel.IsZero() && i.Cmdline != "":
		return bad("Cmdline", "does nothing without a Kernel")
	}
	if err := CheckTemplate(i.Cmdline); err != nil {
		return bad("Cmdline", "%v", err)
	}
	if i.Format == Kernel {
		return i, nil
	}
	if i.VirtualSize, there, err = number(doc, "VirtualSize"); err != nil {
		return bad("VirtualSize", "%v", err)
	} else if !there {
		i.VirtualSize = i.Disk.Size // what a raw image is; a qcow2's is looked up once it is here
	}
	if i.Format == Raw && i.VirtualSize != i.Disk.Size {
		return bad("VirtualSize", "%d is not Size, %d; a raw image is as large as its file", i.VirtualSize, i.Disk.Size)
	}
	return i, nil
}

func parseFile(doc hostdb.Document) (f File, err error) {
	var there bool
	if f.SHA256, there, err = scalar(doc, "SHA256"); err != nil {
		return File{}, fmt.Errorf("SHA256: %w", err)
	} else if !there {
		return File{}, errors.New("SHA256: is missing; want 64 hex digits, as sha256sum prints them")
	}
	if f.SHA256 = strings.ToLower(f.SHA256); !shaForm.MatchString(f.SHA256) {
		return File{}, fmt.Errorf("SHA256: %q: want 64 hex digits, as sha256sum prints them", clip(f.SHA256))
	}
	if f.Size, there, err = number(doc, "Size"); err != nil {
		return File{}, fmt.Errorf("Size: %w", err)
	} else if !there {
		return File{}, errors.New("Size: is missing; want the bytes of the file")
	}
	if f.URL, there, err = scalar(doc, "URL"); err != nil {
		return File{}, fmt.Errorf("URL: %w", err)
	} else if there {
		if err := CheckURL(f.URL); err != nil {
			return File{}, errors.New(strings.TrimPrefix(err.Error(), ErrBadImage.Error()+": "))
		}
	}
	return f, nil
}

// scalar is the text at a key; there is false when nothing stands there.
func scalar(doc hostdb.Document, key string) (text string, there bool, err error) {
	sub := doc.At(key)
	if !sub.Exists() || sub.IsNull() {
		return "", false, nil
	}
	v, leaf := sub.Value()
	if !leaf || !v.IsScalar() {
		return "", true, errors.New("want one value, not a mapping or a list")
	}
	return v.Scalar(), v.Scalar() != "", nil
}

// number is the positive number of bytes at a key.
func number(doc hostdb.Document, key string) (n int64, there bool, err error) {
	text, there, err := scalar(doc, key)
	if err != nil || !there {
		return 0, there, err
	}
	n, err = strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > MaxSize {
		return 0, true, fmt.Errorf("%q: want a number of bytes from 1 to %d", clip(text), int64(MaxSize))
	}
	return n, true, nil
}

// Document is the entry of the catalogue that Parse reads back.
func (i Image) Document() hostdb.Document {
	var leaves []hostdb.Leaf
	put := func(text string, path ...string) {
		leaves = append(leaves, hostdb.Leaf{Path: hostdb.PathOf(path...), Value: hostdb.Text(text)})
	}
	file := func(f File, above ...string) {
		if f.IsZero() {
			return
		}
		put(f.SHA256, append(above, "SHA256")...)
		put(strconv.FormatInt(f.Size, 10), append(above, "Size")...)
		if f.URL != "" {
			put(f.URL, append(above, "URL")...)
		}
	}
	put(string(i.Format), "Format")
	file(i.Disk)
	if i.VirtualSize > 0 {
		put(strconv.FormatInt(i.VirtualSize, 10), "VirtualSize")
	}
	file(i.Kernel, "Kernel")
	file(i.Initrd, "Initrd")
	if i.Cmdline != "" {
		put(i.Cmdline, "Cmdline")
	}
	return hostdb.NewDocument(leaves...)
}
