package dnsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hostmesh/dnsd/zone"
)

// serialFile keeps serials across restarts. Before a serial is served the file holds a ceiling that is not below it, and
// a process that finds a ceiling above the serial takes it for the serial: it cannot know how far its predecessor went.
// Ceilings lie reserveAhead further, so that a burst of changes costs one fsync, and are lowered to the serials when
// things are quiet or at the end; so only a crash in a burst leaves a gap.
type serialFile struct{ path string }

const (
	serialFileName    = "dns-serials.json"
	serialFileVersion = 1
	reserveAhead      = 256
)

type serialFileContent struct {
	Version int                  `json:"version"`
	Zones   map[string]serialRow `json:"zones"`
}

type serialRow struct {
	Serial  uint32    `json:"serial"`
	Hash    zone.Hash `json:"hash"`
	Ceiling uint32    `json:"ceiling"`
}

// load reads the file into s. A missing file is no error.
func (f serialFile) load(s *Serials) error {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read zone serials: %w", err)
	}
	var c serialFileContent
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("read zone serials from %s: %w", f.path, err)
	}
	if c.Version > serialFileVersion {
		return fmt.Errorf("read zone serials: %s has version %d, this build knows up to %d: install the newer hostmesh again, or delete the file", f.path, c.Version, serialFileVersion)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for origin, row := range c.Zones {
		z := s.zone(origin)
		z.started, z.serial, z.hash, z.saved = true, row.Serial, row.Hash, &row
		if newer(row.Ceiling, row.Serial) {
			z.serial, z.hash = row.Ceiling, zone.Hash{} // whatever the content is, it counts as changed
		}
	}
	return nil
}

// reserve makes sure that a restart will not go below what s says now. It writes only if the ceilings do not suffice.
func (f serialFile) reserve(s *Serials) (wrote bool, err error) {
	return f.save(s, func(z *zoneSerial) (uint32, bool) {
		if z.saved != nil && !newer(z.serial, z.saved.Ceiling) {
			return z.saved.Ceiling, false
		}
		return z.serial + reserveAhead, true
	})
}

// settle lowers the ceilings to the serials.
func (f serialFile) settle(s *Serials) error {
	_, err := f.save(s, func(z *zoneSerial) (uint32, bool) {
		return z.serial, z.saved == nil || *z.saved != serialRow{z.serial, z.hash, z.serial}
	})
	return err
}

func (f serialFile) save(s *Serials, ceiling func(*zoneSerial) (c uint32, write bool)) (wrote bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := serialFileContent{Version: serialFileVersion, Zones: map[string]serialRow{}}
	for origin, z := range s.zones {
		if !z.started {
			continue
		}
		top, write := ceiling(z)
		wrote = wrote || write
		c.Zones[origin] = serialRow{z.serial, z.hash, top}
	}
	if !wrote || f.path == "" {
		return false, nil
	}
	text, err := json.MarshalIndent(c, "", "\t")
	if err == nil {
		err = writeFile(f.path, append(text, '\n'))
	}
	if err != nil {
		return false, fmt.Errorf("keep zone serials: %w", err)
	}
	for origin, row := range c.Zones {
		s.zones[origin].saved = &row
	}
	return true, nil
}

// writeFile replaces a file so that after a crash it is the old or the new one.
func writeFile(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it was renamed, as it should
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
