package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/backup"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/node/api"
)

// ErrNoReplica is returned for a data directory that holds no replica.
var ErrNoReplica = errors.New("the data directory holds no replica")

// Offline is the data directory of an agent that does not run, locked so that none can start.
type Offline struct {
	dir *dataDir
	db  *badgerdb.DB
	log *slog.Logger
}

// OpenOffline opens a data directory. Errors wrap ErrInUse when an agent has it, and ErrNoReplica. The caller closes it.
func OpenOffline(path string, log *slog.Logger) (*Offline, error) {
	c, err := inspectDataDir(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(path, replicaDir)); c.Format == 0 || err != nil {
		return nil, fmt.Errorf("%w: %s; name an agent's data directory", ErrNoReplica, path)
	}
	dir, err := openDataDir(path)
	if err != nil {
		return nil, err
	}
	db, err := badgerdb.Open(badgerdb.Config{Dir: dir.file(replicaDir), Logger: log})
	if err != nil {
		dir.close()
		return nil, err
	}
	return &Offline{dir: dir, db: db, log: log}, nil
}

// Close gives the directory back.
func (o *Offline) Close() error {
	err := o.db.Close()
	o.dir.close()
	return err
}

// Verify holds the rows of the replica against each other. It changes nothing.
func (o *Offline) Verify(ctx context.Context, progress func(api.KeepProgress)) (api.VerifyReport, error) {
	return verifyStorage(ctx, o.db, nil, progress)
}

func verifyStorage(ctx context.Context, st hostdb.Storage, expect *hostdb.Expectation, progress func(api.KeepProgress)) (api.VerifyReport, error) {
	start := time.Now()
	r, err := hostdb.Verify(ctx, st, hostdb.VerifyOptions{Expect: expect, Progress: func(rows uint64) { progress(api.KeepProgress{Phase: "rows", Done: rows}) }})
	return api.VerifyReportOf(r, time.Since(start)), err
}

// Compact makes the database as small as it can be.
func (o *Offline) Compact(ctx context.Context, progress func(api.KeepProgress)) (api.CompactReport, error) {
	return compact(ctx, o.db, progress)
}

// WriteBackup writes a backup, and first makes good what a crash left undone.
func (o *Offline) WriteBackup(ctx context.Context, w io.Writer, build api.Build) error {
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return kept{o.db}, nil }, NodeID: o.dir.nodeID, Logger: o.log,
	})
	if err != nil {
		return err
	}
	defer store.Close()
	view, scan, err := store.RowScan(ctx)
	if err != nil {
		return err
	}
	h := backup.Header{
		Storage: hostdb.StorageFormat, MeshID: o.dir.mesh.ID, MeshName: o.dir.mesh.Name, NodeID: o.dir.nodeID, Build: build.Version, Created: time.Now().UTC(),
	}
	h.Describe(view)
	_, err = backup.Write(ctx, w, h, scan, nil)
	return err
}

// kept is a storage that stays open when a store closes it.
type kept struct{ hostdb.Storage }

func (kept) Close() error { return nil }

// VerifyBackup reads a backup to its end and verifies what is in it. It puts the rows into a directory below TMPDIR, which it removes.
func VerifyBackup(ctx context.Context, file io.Reader, log *slog.Logger, progress func(api.KeepProgress)) (h backup.Header, r api.VerifyReport, err error) {
	in, err := backup.NewReader(file)
	if err != nil {
		return h, r, err
	}
	h = in.Header()
	if err := checkRows(h); err != nil {
		return h, r, err
	}
	dir, err := os.MkdirTemp("", "hostmesh-verify-")
	if err != nil {
		return h, r, fmt.Errorf("verify backup: %w", err)
	}
	defer os.RemoveAll(dir)
	r, err = unpack(ctx, in, dir, log, progress)
	return h, r, err
}

// checkRows refuses a backup whose rows this build cannot read.
func checkRows(h backup.Header) error {
	if h.Storage > hostdb.StorageFormat {
		return fmt.Errorf("%w: its rows have format %d, this build knows up to %d: use hostmesh %s or a newer one", backup.ErrNewer, h.Storage, hostdb.StorageFormat, h.Build)
	}
	return nil
}

// unpack puts the rows of a backup into a new database in a directory and verifies them there.
func unpack(ctx context.Context, in *backup.Reader, dir string, log *slog.Logger, progress func(api.KeepProgress)) (r api.VerifyReport, err error) {
	h := in.Header()
	expect, err := h.Expectation()
	if err != nil {
		return r, err
	}
	db, err := badgerdb.Open(badgerdb.Config{Dir: dir, Logger: log})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = in.Restore(ctx, db, func(rows uint64) { progress(api.KeepProgress{Phase: "restored rows", Done: rows}) })
	if err != nil {
		return r, err
	}
	return verifyStorage(ctx, db, &expect, progress)
}
