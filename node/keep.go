package node

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hostmesh/hostdb"
	"hostmesh/hostdb/backup"
	"hostmesh/hostdb/badgerdb"
	"hostmesh/node/api"
)

// keeper implements api.Keeper on the agent's replica. Each task runs once at a time: a verification takes the memory of a second
// replica, and a backup keeps what is deleted meanwhile on the disk.
type keeper struct {
	agent *Agent

	verifying, copying, compacting atomic.Bool
	verified, findings, copied     prometheus.Gauge
}

func newKeeper(a *Agent) *keeper {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "hostmesh_hostdb_" + name, Help: help})
	}
	return &keeper{
		agent:    a,
		verified: gauge("verified_timestamp_seconds", "When the replica was last verified since the start; 0 for never."),
		findings: gauge("verify_findings", "What the last verification found damaged: an alarm."),
		copied:   gauge("backup_timestamp_seconds", "When the last backup of this node was finished since the start; 0 for never."),
	}
}

func (k *keeper) collectors() []prometheus.Collector {
	return []prometheus.Collector{k.verified, k.findings, k.copied}
}

// begin takes a task's turn.
func begin(running *atomic.Bool, what string) error {
	if !running.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: %s runs already; wait for its end", hostdb.ErrBusy, what)
	}
	return nil
}

// header is what a backup of this replica says of itself.
func (k *keeper) header(v hostdb.View) backup.Header {
	a := k.agent
	h := backup.Header{
		Storage: hostdb.StorageFormat, MeshID: a.mesh.Stats().MeshID, MeshName: a.dir.mesh.Name, NodeID: a.dir.nodeID, NodeName: a.cfg.Name,
		Build: a.build().Version, Created: a.clock.Now().UTC(),
	}
	h.Describe(v)
	return h
}

// WriteBackup implements api.Keeper.
func (k *keeper) WriteBackup(ctx context.Context, w io.Writer) error {
	if err := begin(&k.copying, "a backup"); err != nil {
		return err
	}
	defer k.copying.Store(false)
	start := time.Now()
	view, scan, err := k.agent.store.RowScan(ctx)
	if err != nil {
		return err
	}
	t, err := backup.Write(ctx, w, k.header(view), scan, nil)
	if err != nil {
		k.agent.log.Warn("backup broke off", "err", err)
		return err
	}
	k.copied.SetToCurrentTime()
	k.agent.log.Info("backup written", "version", view.Version().String(), "rows", t.Rows, "bytes", t.Bytes, "duration", time.Since(start))
	return nil
}

// Verify implements api.Keeper.
func (k *keeper) Verify(ctx context.Context, progress func(api.KeepProgress)) (api.VerifyReport, error) {
	if err := begin(&k.verifying, "a verification"); err != nil {
		return api.VerifyReport{}, err
	}
	defer k.verifying.Store(false)
	start := time.Now()
	r, err := k.agent.store.Verify(ctx, func(rows uint64) { progress(api.KeepProgress{Phase: "rows", Done: rows}) })
	if err != nil {
		k.agent.log.Warn("verification broke off", "err", err)
		return api.VerifyReport{}, err
	}
	k.verified.SetToCurrentTime()
	k.findings.Set(float64(uint64(len(r.Findings)) + r.More))
	for _, f := range r.Findings {
		k.agent.log.Error("replica is damaged", "where", f.Where, "what", f.What, "remedy", f.Remedy)
	}
	if !r.Damaged() {
		k.agent.log.Info("replica verified", "rows", r.Rows, "operations", r.Operations, "duration", time.Since(start))
	}
	return api.VerifyReportOf(r, time.Since(start)), nil
}

// Compact implements api.Keeper.
func (k *keeper) Compact(ctx context.Context, progress func(api.KeepProgress)) (api.CompactReport, error) {
	if err := begin(&k.compacting, "a compaction"); err != nil {
		return api.CompactReport{}, err
	}
	defer k.compacting.Store(false)
	db := k.agent.disk.Load()
	if err := k.agent.store.Failure(); err != nil {
		return api.CompactReport{}, fmt.Errorf("compact: %w", err)
	}
	r, err := compact(ctx, db, progress)
	if err != nil {
		k.agent.log.Warn("compaction broke off", "err", err)
		return r, err
	}
	k.agent.log.Info("database compacted", "before", r.Before, "after", r.After, "duration", time.Duration(r.Millis)*time.Millisecond)
	return r, nil
}

func compact(ctx context.Context, db *badgerdb.DB, progress func(api.KeepProgress)) (api.CompactReport, error) {
	start := time.Now()
	done, err := db.Compact(ctx, func(phase string) { progress(api.KeepProgress{Phase: phase}) })
	return api.CompactReport{Before: done.Before, After: done.After, Millis: time.Since(start).Milliseconds()}, err
}
