package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"go.yaml.in/yaml/v4"
)

// DefaultProfile is the profile of guests whose tags name none. A box need not have it.
const DefaultProfile = "default"

// maxProfile bounds the file of a profile, in bytes.
const maxProfile = 1 << 20

// Profile is what a box tells guests at their first boot: who may log in, and what is run. It is a file of the box and not
// data of HostDB, because it gives root on the machines that are made with it.
type Profile struct {
	// User is who gets Keys, and may do everything by sudo. Absent is the image's own default user.
	User string `yaml:"User"`
	// Keys are public SSH keys by a name of your choice, in the form of authorized_keys.
	Keys map[string]string `yaml:"Keys"`
	// Commands are run by a shell as root, in the order of their names.
	Commands map[string]string `yaml:"Commands"`
}

// ErrProfile is wrapped by what is wrong with the profile of a guest.
var ErrProfile = errors.New("guest profile")

// LoadProfile reads the file of a profile, NAME.yaml in dir; name "" is DefaultProfile, which is empty where it is not
// there. A file that others than its owner may write, or that is neither root's nor this process's user's, is refused.
func LoadProfile(dir, name string) (Profile, error) {
	optional := name == ""
	if optional {
		name = DefaultProfile
	}
	if name != filepath.Base(name) || name[0] == '.' {
		return Profile{}, fmt.Errorf("%w %q: want the plain name of a file in %s, without .yaml", ErrProfile, clip(name), dir)
	}
	path := filepath.Join(dir, name+".yaml")
	text, err := readOwn(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && optional:
		return Profile{}, nil
	case errors.Is(err, fs.ErrNotExist):
		return Profile{}, fmt.Errorf("%w %s: this box has no %s; put it there, on every box that may carry such machines", ErrProfile, name, path)
	case err != nil:
		return Profile{}, fmt.Errorf("%w %s: %w", ErrProfile, name, err)
	}
	var p Profile
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		// What the parser says may quote the file, which is not for everybody's eyes.
		return Profile{}, fmt.Errorf("%w %s: %s is not a YAML mapping with User, Keys and Commands, the last two mappings of texts", ErrProfile, name, path)
	}
	return p, nil
}

// readOwn reads a file that only root or this process's user may write.
func readOwn(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case st.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s may be written by others than its owner (mode %04o); chmod go-w it", path, st.Mode().Perm())
	case !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to another user; chown it to root", path)
	case st.Size() > maxProfile:
		return nil, fmt.Errorf("%s has %d bytes; expected at most %d", path, st.Size(), maxProfile)
	}
	return io.ReadAll(io.LimitReader(f, maxProfile))
}

// Add has a seed carry the profile.
func (p Profile) Add(s *SeedSpec) {
	s.User = p.User
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		s.Keys = append(s.Keys, p.Keys[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.Commands)) {
		s.Commands = append(s.Commands, p.Commands[name])
	}
}
