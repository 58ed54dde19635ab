package vmd_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// entryFile writes an entry as a ledger of an earlier day has it: what a data directory holds that was restored from a backup.
func (w *world) entryFile(box string, e vmd.Entry) {
	w.t.Helper()
	e.Format = 1
	body, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	body = append(body, '\n')
	sum := sha256.Sum256(body)
	text := append([]byte("hostmesh-vm-ledger 1 "+hex.EncodeToString(sum[:])+"\n"), body...)
	if err := os.WriteFile(filepath.Join(w.dir, box, e.UUID+".vm"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// runningOn are the boxes on which a machine runs.
func (w *world) runningOn(uuid string) (list []string) {
	for name := range w.boxes {
		for _, m := range w.domains(name) {
			if m.UUID == uuid && m.State == plan.Running {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list
}
