package image

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Grace is how long a file that nothing refers to stays: whoever is about to refer to it has that long to say so.
const Grace = time.Hour

// Stored is a file on this box.
type Stored struct {
	Name  string // of the file: the SHA-256 in the store, or that of a volume
	Path  string
	Size  int64     // bytes
	Since time.Time // when it was last written
}

// Use is all that can refer to a file of the store.
type Use struct {
	// Catalogue are the good entries, and Bad the names of entries that cannot be read: while there is one, no file is
	// known to be unneeded.
	Catalogue map[string]Image
	Bad       []string
	// Needed are the files that machines of this box grow from, those that are off or deleted and kept included: paths,
	// or SHA-256 in hex.
	Needed []string
	// Images are the names of images that hosts in HostDB and machines in reports want, wherever they are: what one of
	// them wants is not removed even if the catalogue has lost it, because it may come back.
	Images []string
	// Known says which file was that of which name, for names that the catalogue has no more: SHA-256 by name.
	Known map[string][]string
	// Fetching are the SHA-256 of files that are being fetched.
	Fetching []string
}

// Removable are the files of the store that nothing refers to: not the catalogue, no machine here, no host and no machine
// elsewhere by the name of an image. It is a pure function; the order is that of stored.
func Removable(stored []Stored, u Use, now time.Time) []Stored {
	if len(u.Bad) > 0 {
		return nil
	}
	keep := map[string]bool{}
	for _, i := range u.Catalogue {
		for _, f := range i.Files() {
			keep[f.SHA256] = true
		}
	}
	for _, n := range u.Needed {
		keep[n] = true
	}
	for _, name := range u.Images {
		for _, sha := range u.Known[name] {
			keep[sha] = true
		}
	}
	for _, sha := range u.Fetching {
		keep[sha] = true
	}
	var out []Stored
	for _, f := range stored {
		if !keep[f.Name] && !keep[f.Path] && now.Sub(f.Since) >= Grace {
			out = append(out, f)
		}
	}
	return out
}

// volumeSuffixes are what follows the UUID in the name of a volume that hostmesh makes.
var volumeSuffixes = []string{".qcow2", "-seed.iso"}

// VolumeOwner is the UUID of the machine that a volume of this name belongs to; ok is false for a name that hostmesh does
// not give.
func VolumeOwner(name string) (uuid string, ok bool) {
	for _, s := range volumeSuffixes {
		if id, is := strings.CutSuffix(name, s); is && isUUID(id) {
			return id, true
		}
	}
	return "", false
}

func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i, c := range []byte(text) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Unused are the volumes that no machine has: neither a domain refers to the file, nor does the ledger know the UUID in its
// name. Files with other names are somebody else's, and never among them. files are the paths that domains refer to, foreign
// ones included; ledger has the UUIDs of all machines, the deleted ones that are kept included. It is a pure function.
func Unused(volumes []Stored, files []string, ledger []string, now time.Time) []Stored {
	used := map[string]bool{}
	for _, f := range files {
		used[f] = true
	}
	var out []Stored
	for _, v := range volumes {
		uuid, ours := VolumeOwner(v.Name)
		if ours && !used[v.Path] && !slices.Contains(ledger, uuid) && now.Sub(v.Since) >= Grace {
			out = append(out, v)
		}
	}
	return out
}

// Names are the names of a catalogue, sorted.
func Names(catalogue map[string]Image) []string { return slices.Sorted(maps.Keys(catalogue)) }
