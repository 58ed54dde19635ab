package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of a qcow2 header, as qemu has them (docs/interop/qcow2.txt, block/qcow2.h): what is beyond them would make it read
// or allocate without end.
const (
	qcowMagic         = 0x514649fb // "QFI\xfb"
	qcowMinBits       = 9
	qcowMaxBits       = 21
	qcowMaxL1         = 32 << 20 // bytes
	qcowMaxRefcounts  = 8 << 20  // bytes of the table
	qcowMaxSnapshots  = 1 << 16
	qcowHeader2       = 72
	qcowHeader3       = 104
	qcowExtDataFile   = 0x44415441 // name of an external data file
	qcowExtBacking    = 0xe2792aca // format of a backing file
	qcowExtCrypto     = 0x0537be77 // encryption
	qcowFeatDirty     = 1 << 0
	qcowFeatCorrupt   = 1 << 1
	qcowFeatExternal  = 1 << 2
	qcowFeatCompress  = 1 << 3
	qcowFeatExtended  = 1 << 4 // subclusters
	qcowFeaturesKnown = qcowFeatDirty | qcowFeatCorrupt | qcowFeatExternal | qcowFeatCompress | qcowFeatExtended
)

// QCOW2Header is what the header of a qcow2 file says.
type QCOW2Header struct {
	Version     int
	VirtualSize int64 // bytes
	ClusterSize int64 // bytes
}

// ReadQCOW2 reads and checks the header of a qcow2 file of size bytes. It refuses what would make qemu read another file
// (a backing file, an external data file), what needs a password, what was not closed in order, and what is beyond the
// bounds of the format. Errors wrap ErrBadImage and say what to do.
func ReadQCOW2(r io.ReaderAt, size int64) (QCOW2Header, error) {
	h, err := readQCOW2(r, size)
	if err != nil {
		return QCOW2Header{}, fmt.Errorf("%w: qcow2: %w", ErrBadImage, err)
	}
	return h, nil
}

func readQCOW2(r io.ReaderAt, size int64) (h QCOW2Header, err error) {
	if size < qcowHeader2 {
		return h, fmt.Errorf("the file has %d bytes, a header has %d", size, qcowHeader2)
	}
	// A version 3 header and its extensions lie in the first cluster, which has at most 2 MiB; this is enough to tell.
	head := make([]byte, min(size, qcowHeader3))
	if _, err := r.ReadAt(head, 0); err != nil {
		return h, fmt.Errorf("read the header: %w", err)
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(head[at:]) }
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(head[at:]) }
	if u32(0) != qcowMagic {
		return h, errors.New("the file does not begin as one; say --format raw if it is a raw disk, or convert it: qemu-img convert -O qcow2")
	}
	switch h.Version = int(u32(4)); {
	case h.Version == 1:
		return h, errors.New("version 1 is not taken; convert it: qemu-img convert -O qcow2")
	case h.Version != 2 && h.Version != 3:
		return h, fmt.Errorf("version %d is not known", u32(4))
	case h.Version == 3 && len(head) < qcowHeader3:
		return h, fmt.Errorf("the file has %d bytes, a header of version 3 has %d", size, qcowHeader3)
	}
	if u64(8) != 0 || u32(16) != 0 {
		return h, errors.New("it has a backing file, and would read that file of the box; merge them: qemu-img convert -O qcow2")
	}
	if u32(32) != 0 {
		return h, errors.New("it is encrypted; convert it: qemu-img convert -O qcow2")
	}
	bits := u32(20)
	if bits < qcowMinBits || bits > qcowMaxBits {
		return h, fmt.Errorf("cluster bits %d: want %d to %d", bits, qcowMinBits, qcowMaxBits)
	}
	h.ClusterSize = 1 << bits
	virtual := u64(24)
	if virtual == 0 || virtual > MaxSize {
		return h, fmt.Errorf("virtual size %d: want 1 to %d", virtual, int64(MaxSize))
	}
	h.VirtualSize = int64(virtual)

	features, headerLength, refcountOrder := uint64(0), int64(qcowHeader2), uint32(4)
	if h.Version == 3 {
		features, refcountOrder, headerLength = u64(72), u32(96), int64(u32(100))
	}
	switch {
	case features&qcowFeatExternal != 0:
		return h, errors.New("its data is in another file, which it would read from the box; convert it: qemu-img convert -O qcow2")
	case features&qcowFeatCorrupt != 0:
		return h, errors.New("it is marked as corrupt; look at it with: qemu-img check")
	case features&qcowFeatDirty != 0:
		return h, errors.New("it was not closed in order, or is in use; stop who uses it, then: qemu-img check -r all")
	case features&^qcowFeaturesKnown != 0:
		return h, fmt.Errorf("features %#x are not known", features&^qcowFeaturesKnown)
	case headerLength < qcowHeader2 || h.Version == 3 && headerLength < qcowHeader3 || headerLength > h.ClusterSize || headerLength%8 != 0:
		return h, fmt.Errorf("header length %d is not that of version %d", headerLength, h.Version)
	case refcountOrder > 6:
		return h, fmt.Errorf("refcount order %d: want at most 6", refcountOrder)
	}

	// The first-level table: as large as the virtual size needs, and within the file.
	entry := int64(8)
	if features&qcowFeatExtended != 0 {
		entry = 16
	}
	l1, l1At := int64(u32(36)), u64(40)
	covers := h.ClusterSize * (h.ClusterSize / entry) // bytes of the disk that one entry stands for; at most 2^39
	need := (h.VirtualSize-1)/covers + 1
	switch {
	case l1*8 > qcowMaxL1:
		return h, fmt.Errorf("the first-level table has %d entries; qemu takes %d", l1, qcowMaxL1/8)
	case l1 < need:
		return h, fmt.Errorf("the first-level table has %d entries; the virtual size needs %d", l1, need)
	}
	if err := within("the first-level table", l1At, l1*8, h.ClusterSize, size); err != nil {
		return h, err
	}
	refcounts, refcountsAt := int64(u32(56))*h.ClusterSize, u64(48)
	if refcounts == 0 || refcounts > qcowMaxRefcounts {
		return h, fmt.Errorf("the refcount table has %d bytes: want 1 to %d", refcounts, qcowMaxRefcounts)
	}
	if err := within("the refcount table", refcountsAt, refcounts, h.ClusterSize, size); err != nil {
		return h, err
	}
	if n := u32(60); n > qcowMaxSnapshots {
		return h, fmt.Errorf("it has %d snapshots; qemu takes %d", n, qcowMaxSnapshots)
	} else if n > 0 {
		if err := within("the snapshot table", u64(64), 40*int64(n), h.ClusterSize, size); err != nil {
			return h, err
		}
	}
	return h, readExtensions(r, headerLength, min(h.ClusterSize, size))
}

// within reports a table that does not lie in the file.
func within(what string, at uint64, length, cluster, size int64) error {
	if at > uint64(size) || at%uint64(cluster) != 0 || at == 0 && length > 0 || length > size-int64(at) {
		return fmt.Errorf("%s at %d, %d bytes long, is not within the file of %d bytes at a cluster: the file is damaged or cut off", what, at, length, size)
	}
	return nil
}

// readExtensions looks through the header extensions, which lie between the header and the end of the first cluster.
func readExtensions(r io.ReaderAt, at, end int64) error {
	var head [8]byte
	for at+8 <= end {
		if _, err := r.ReadAt(head[:], at); err != nil {
			return fmt.Errorf("read the header extensions: %w", err)
		}
		kind, length := binary.BigEndian.Uint32(head[:]), int64(binary.BigEndian.Uint32(head[4:]))
		switch {
		case kind == 0:
			return nil
		case length > end-at-8:
			return fmt.Errorf("header extension %#x has %d bytes and does not end in the first cluster", kind, length)
		case kind == qcowExtDataFile:
			return errors.New("it names a file for its data, which it would read from the box; convert it: qemu-img convert -O qcow2")
		case kind == qcowExtBacking:
			return errors.New("it names the format of a backing file; convert it: qemu-img convert -O qcow2")
		case kind == qcowExtCrypto:
			return errors.New("it is encrypted; convert it: qemu-img convert -O qcow2")
		}
		at += 8 + (length+7)/8*8
	}
	return nil
}

// BackingFile is the path that a qcow2 file names as what it grows from, as it stands in its header; "" = none. It serves to
// tell which base images disks need: nothing is opened by that name. Errors wrap ErrBadImage.
func BackingFile(r io.ReaderAt) (string, error) {
	var head [20]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return "", fmt.Errorf("%w: qcow2: read the header: %w", ErrBadImage, err)
	}
	if binary.BigEndian.Uint32(head[:]) != qcowMagic {
		return "", fmt.Errorf("%w: qcow2: the file does not begin as one", ErrBadImage)
	}
	at, length := binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint32(head[16:])
	if at == 0 {
		return "", nil
	}
	if at > 1<<21 || length > 1023 { // in the first cluster; the format's bound
		return "", fmt.Errorf("%w: qcow2: the name of its backing file is out of bounds", ErrBadImage)
	}
	name := make([]byte, length)
	if _, err := r.ReadAt(name, int64(at)); err != nil {
		return "", fmt.Errorf("%w: qcow2: read the name of its backing file: %w", ErrBadImage, err)
	}
	return string(name), nil
}

// BaseFiles are the paths of the files that the disks of a directory grow from. A disk that cannot be read is an error: then
// it is not known what is needed.
func BaseFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at disks: %w", err)
	}
	var bases []string
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), ".qcow2") || !e.Type().IsRegular() {
			continue
		}
		base, err := readBacking(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("look at disk %s: %w", e.Name(), err)
		}
		if base != "" {
			bases = append(bases, base)
		}
	}
	return bases, nil
}

func readBacking(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return BackingFile(f)
}
