package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
	"hostmesh/hostdb/backup"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// ErrNotEmpty is returned when a backup is to be restored into a directory that holds something.
var ErrNotEmpty = errors.New("the directory is not empty")

// RestoreConfig says where a backup is restored to.
type RestoreConfig struct {
	// DataDir is made; it may exist and be empty.
	DataDir string
	// NewMesh founds a mesh with the HostDB of the backup. Without it the directory is a new node of the mesh that the backup is of.
	NewMesh bool
	// KeyFile is the mesh key. With NewMesh it is made if it is missing; empty: mesh.key in the data directory. Without NewMesh it is
	// only tried on the sealed records; empty: they are not tried.
	KeyFile string
	// Name of the founder, for people who look at the record. Empty: the box's host name.
	Name     string
	Logger   *slog.Logger
	Progress func(api.KeepProgress) // nil for none
}

// RestoreResult is what was restored.
type RestoreResult struct {
	MeshID  string           `json:"mesh_id"`
	NodeID  string           `json:"node_id"`
	NewMesh bool             `json:"new_mesh"`
	KeyFile string           `json:"key_file,omitempty"`
	KeyMade bool             `json:"key_made,omitempty"`
	Version string           `json:"version"`
	Created time.Time        `json:"created"` // of the backup
	Verify  api.VerifyReport `json:"verify"`
	// Sealed are the keys of namespace .system that do not open with the key of KeyFile. Users among them cannot log in until they are
	// set anew.
	Sealed []string `json:"sealed,omitempty"`
}

// RestoreBackup makes a data directory of a backup. The node in it is a new one, with an id of its own. A backup that is damaged leaves
// nothing behind: the error wraps backup.ErrDamaged.
func RestoreBackup(ctx context.Context, file io.Reader, cfg RestoreConfig) (res RestoreResult, err error) {
	if cfg.DataDir == "" {
		return res, errors.New("restore: set --data-dir to the data directory to make")
	}
	if cfg.Progress == nil {
		cfg.Progress = func(api.KeepProgress) {}
	}
	in, err := backup.NewReader(file)
	if err != nil {
		return res, err
	}
	h := in.Header()
	if err := checkRows(h); err != nil {
		return res, err
	}
	if !validID(h.MeshID) && !cfg.NewMesh {
		return res, errors.New("restore: the backup is of no mesh yet: found one with --new-mesh")
	}
	entries, err := os.ReadDir(cfg.DataDir)
	switch {
	case err == nil && len(entries) > 0:
		return res, fmt.Errorf("restore: %w: %s; name one that does not exist yet", ErrNotEmpty, cfg.DataDir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return res, fmt.Errorf("restore: %w", err)
	}
	existed := err == nil
	d, err := openDataDir(cfg.DataDir)
	if err != nil {
		return res, err
	}
	defer d.close()
	defer func() {
		if err != nil {
			err = errors.Join(err, clearDir(cfg.DataDir, existed))
		}
	}()
	res = RestoreResult{NodeID: d.nodeID, NewMesh: cfg.NewMesh, Version: h.Version, Created: h.Created}
	// Under another name until it is known to be whole: an agent that starts here after a crash must not take a part for all.
	part := d.file(replicaDir + ".part")
	if res.Verify, err = unpack(ctx, in, part, cfg.Logger, cfg.Progress); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	if !res.Verify.Sound {
		f := res.Verify.Findings[0]
		return res, fmt.Errorf("restore: %w: the replica was damaged when the backup was made: %s: %s, and %d more; use another backup",
			backup.ErrDamaged, f.Where, f.What, uint64(len(res.Verify.Findings))+res.Verify.More-1)
	}
	if cfg.NewMesh && cfg.KeyFile == "" {
		cfg.KeyFile = d.file(keyName)
	}
	if cfg.NewMesh {
		if res.KeyMade, err = makeKeyFile(cfg.KeyFile); err != nil {
			return res, fmt.Errorf("restore: %w", err)
		}
	}
	if res.KeyFile = cfg.KeyFile; cfg.KeyFile != "" {
		if res.Sealed, err = sealedWithAnother(part, d.nodeID, cfg.KeyFile, cfg.Logger); err != nil {
			return res, fmt.Errorf("restore: %w", err)
		}
	}
	if err := os.Rename(part, d.file(replicaDir)); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	record := MeshRecord{ID: h.MeshID, Name: h.MeshName, Created: time.Now().UTC()}
	if cfg.NewMesh {
		if cfg.Name == "" {
			cfg.Name, _ = os.Hostname() // only a note
		}
		record.ID, record.Founder, record.Name = newID(), true, cfg.Name
	}
	res.MeshID = record.ID
	// The record comes last, as in foundMesh; writing it syncs the directory, too.
	if err := d.setMesh(record); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	return res, nil
}

// clearDir takes away what a restore that failed has made. The lock's file goes last, with the directory.
func clearDir(path string, keep bool) error {
	if !keep {
		return os.RemoveAll(path)
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(path, e.Name())))
	}
	return err
}

// sealedWithAnother are the keys of .system that hold something sealed that the key in a file does not open.
func sealedWithAnother(dir, nodeID, keyFile string, log *slog.Logger) (keys []string, err error) {
	key, err := mesh.LoadKeyFile(keyFile)
	if err != nil {
		return nil, err
	}
	sealer, err := auth.NewSealer(key.Derive(mesh.LabelSeal, mesh.KeySize))
	if err != nil {
		return nil, err
	}
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return badgerdb.Open(badgerdb.Config{Dir: dir, Logger: log}) }, NodeID: nodeID, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	v := store.View()
	for name := range v.Keys(hostdb.System) {
		doc := v.Data(hostdb.System, name)
		if doc.At("Sealed").Exists() {
			if _, err := sealer.OpenDocument(hostdb.System, name, doc); err != nil {
				keys = append(keys, name)
			}
		}
	}
	return keys, nil
}

// SealedUsers are the names of the users among the keys of RestoreResult.Sealed.
func (r *RestoreResult) SealedUsers() []string {
	var names []string
	for _, k := range r.Sealed {
		if name, ok := strings.CutPrefix(k, "user."); ok {
			names = append(names, name)
		}
	}
	return names
}
