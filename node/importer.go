package node

import (
	"context"
	"errors"
	"fmt"
	"io"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
	"hostmesh/node/api"
)

// importer implements api.Importer on a store.
type importer struct{ store *hostdb.Store }

func (im importer) Import(ctx context.Context, who api.Identity, tar io.Reader, opts api.ImportOptions, progress func(api.ImportProgress)) (api.ImportReport, error) {
	files, err := layout.ReadTar(tar, layout.DefaultLimits())
	if err != nil {
		return api.ImportReport{}, fmt.Errorf("read the import: %w", err)
	}
	inv, err := layout.Read(ctx, files, layout.Options{
		KeepGoing: opts.KeepGoing,
		Into:      im.store.View(),
		Progress:  func(done, total int) { progress(api.ImportProgress{Phase: "reading", Done: done, Total: total}) },
	})
	if err != nil {
		var bad *layout.BadInventoryError
		report := layout.Report{}
		if errors.As(err, &bad) {
			report.Problems = bad.Problems
		}
		return api.ImportReportOf(report, err), err
	}
	read := 0
	for _, ns := range inv.Namespaces {
		read += len(ns.Keys)
	}
	report := layout.Report{Problems: inv.Problems, Version: im.store.View().Version()}
	if !opts.DryRun {
		report, err = layout.Import(ctx, im.store, inv, request(who, opts.Log), func(done, total int) {
			progress(api.ImportProgress{Phase: "writing", Done: done, Total: total})
		})
	}
	out := api.ImportReportOf(report, err)
	out.Read = read
	return out, err
}
