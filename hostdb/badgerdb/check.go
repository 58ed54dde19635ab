package badgerdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// checkFiles reads all tables before Badger opens them, because Badger answers to damage in three ways that an agent
// cannot live with. A bad footer panics in a goroutine of Badger's. A table with a bad checksum is left out, and one
// with a bad block ends an iteration early, both without an error: a database that silently lost some keys would
// spread that. And a missing MANIFEST makes it delete every table. It costs reading the directory once, at some
// hundreds of MiB a second, just before everything in it is read anyway.
//
// It also removes what a power cut may leave of files that were never written: they are empty, and hinder Badger.
func checkFiles(dir string, opt badger.Options) error {
	if err := removeUnborn(dir); err != nil {
		return err
	}
	name := filepath.Join(dir, badger.ManifestFilename)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		if err != nil {
			return err
		}
		if len(tables) > 0 {
			return fmt.Errorf("%w: %d tables, but no %s that lists them", ErrCorrupt, len(tables), badger.ManifestFilename)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	manifest, err := replayManifest(f, opt)
	if err != nil {
		return err
	}
	// Other tables than those listed are remains of an unfinished write, and Badger removes them.
	return checkTables(dir, manifest, opt.BlockSize)
}

func replayManifest(f *os.File, opt badger.Options) (m badger.Manifest, err error) {
	defer guard(&err)()
	m, _, err = badger.ReplayManifestFile(f, opt.ExternalMagicVersion, opt)
	if err != nil {
		return m, classify(fmt.Errorf("read %s: %w", badger.ManifestFilename, err))
	}
	return m, nil
}

func checkTables(dir string, manifest badger.Manifest, blockSize int) error {
	ids := make([]uint64, 0, len(manifest.Tables))
	for id := range manifest.Tables {
		ids = append(ids, id)
	}
	const workers = 2
	var next atomic.Int64
	var errs [workers]error
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(ids) {
					return
				}
				opt := table.Options{BlockSize: blockSize, Compression: manifest.Tables[ids[i]].Compression}
				errs[w] = checkTable(table.NewFilename(ids[i], dir), opt)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func checkTable(name string, opt table.Options) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("table %s: %w", filepath.Base(name), err)
			if !errors.Is(err, ErrCorrupt) {
				err = fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
		}
	}()
	defer guard(&err)()
	if info, err := os.Stat(name); err != nil {
		return err
	} else if info.Size() == 0 {
		return errors.New("empty file")
	}
	f, err := z.OpenMmapFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(f, opt) // which closes f on an error
	if err != nil {
		return err
	}
	return errors.Join(t.VerifyChecksum(), t.Close(-1)) // -1: leave the length as it is
}

// removeUnborn removes logs that were created and not yet written when the power went. They hold nothing
// that was acknowledged: before that their length is made durable.
func removeUnborn(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != logSuffix && ext != ".vlog" {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		const header = 20
		if info.Size() >= header {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
