package lbd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"hostmesh/lbd/plan"
)

// The last plan is kept, because the rules on what may leave at once look at it.
const (
	planFile        = "balancing.json"
	planFileVersion = 1
)

type planRecord struct {
	Format   int             `json:"format"`
	Services []*plan.Service `json:"services"`
}

// planAge is how long a plan is kept that no agent goes on from. It outlives an upgrade and a reboot. A box that was away for longer does not know
// what became of its members one by one: all that went meanwhile would be held, and other machines may have their addresses by now.
const planAge = 15 * time.Minute

// planTouch is how often the plan is marked as one that an agent goes on from.
const planTouch = time.Minute

// openPlan reads the last plan. One that cannot be read, or is old, is none: then members are what HostDB says.
func openPlan(dir string, now time.Time, log *slog.Logger) (path string, last plan.Result) {
	path = filepath.Join(dir, planFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, plan.Result{}
	}
	if info, serr := os.Stat(path); err == nil && serr == nil && now.Sub(info.ModTime()) > planAge {
		log.Info("the last plan of load balancing is old; it begins anew", "file", path, "of", info.ModTime().UTC().Format(time.RFC3339))
		return path, plan.Result{}
	}
	var r planRecord
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && r.Format != planFileVersion {
		err = fmt.Errorf("format %d, this build knows %d", r.Format, planFileVersion)
	}
	for _, s := range r.Services {
		if err == nil && (s == nil || len(s.Ports) == 0) {
			err = errors.New("a service without ports")
		}
	}
	if err != nil {
		log.Warn("the last plan of load balancing cannot be read; it begins anew", "file", path, "err", err)
		return path, plan.Result{}
	}
	return path, plan.Result{Services: r.Services}
}

// savePlan writes it. It need not outlive a power cut.
func savePlan(path string, r plan.Result) error {
	text, err := json.Marshal(planRecord{planFileVersion, r.Services})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
