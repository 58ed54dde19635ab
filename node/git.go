package node

import (
	"context"
	"fmt"
	"io"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
	"hostmesh/node/api"
)

// gitHistories implements api.GitHistories on a store.
type gitHistories struct{ store *hostdb.Store }

func (g gitHistories) GitState() api.GitState { return api.GitHistoriesOf(g.store.View()) }

func (g gitHistories) ImportGit(ctx context.Context, who api.Identity, stream io.Reader, log string, progress func(api.ImportProgress)) (api.GitImportReport, error) {
	in, err := layout.NewGitReader(stream)
	if err != nil {
		return api.GitImportReport{}, fmt.Errorf("read the import: %w", err)
	}
	report, err := layout.ImportGit(ctx, g.store, in, request(who, log), func(done, total int) {
		progress(api.ImportProgress{Phase: "writing", Done: done, Total: total})
	})
	return api.GitImportReportOf(report), err
}

func (g gitHistories) WriteGit(ctx context.Context, w io.Writer, after string) error {
	_, err := layout.WriteGit(ctx, w, g.store, after)
	return err
}

func (g gitHistories) WriteDirectory(ctx context.Context, w io.Writer, asOf string) error {
	view := g.store.View()
	if asOf != "" {
		cut, err := g.store.Cut(ctx, asOf)
		if err == nil {
			view, err = g.store.At(ctx, cut)
		}
		if err != nil {
			return fmt.Errorf("as of %s: %w", asOf, err)
		}
	}
	dir, err := layout.Export(view)
	if err != nil {
		return err
	}
	_, err = layout.WriteTar(w, dir, false)
	return err
}
