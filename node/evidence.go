package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

const (
	// evidenceName is the folder of a data directory in which documents about faults are kept for people.
	evidenceName = "evidence"
	// keptEvidence bounds how many: a fault that repeats must not fill the disk.
	keptEvidence = 50
)

// keepEvidence stores a document about a fault. The first ones are kept: they tell most.
func (d *dataDir) keepEvidence(name string, data []byte) error {
	dir := d.file(evidenceName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep evidence: %w", err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("keep evidence: %w", err)
	}
	if len(there) >= keptEvidence && !slices.ContainsFunc(there, func(e os.DirEntry) bool { return e.Name() == name }) {
		return fmt.Errorf("keep evidence %s: %s holds %d documents already: look at them, and move them away", name, dir, len(there))
	}
	return writeFile(filepath.Join(dir, filepath.Base(name)), data, 0o600)
}
