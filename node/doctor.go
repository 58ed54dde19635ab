package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/doctor"
	"hostmesh/node/api"
)

// doctorTime bounds an examination: a site of a hundred thousand hosts takes a few seconds.
const doctorTime = 20 * time.Second

// examiner implements api.Doctor. One examination runs at a time, for each may keep a processor busy for a while.
type examiner struct {
	view   func() hostdb.View
	status func() api.Status
	duties func(ctx context.Context) []api.Problem // nil = nobody is asked
	vms    func() []api.Problem                    // nil = nobody is asked
	lb     func(ctx context.Context) []api.Problem // nil = nobody is asked
	dbs    func() []api.Problem                    // of members of database clusters; nil = nobody is asked
	domain string                                  // of the mesh
	turn   chan struct{}
}

func (a *Agent) doctor(machines *vmDesk) *examiner {
	return &examiner{view: a.store.View, status: a.Status, duties: a.dutyProblems, vms: machines.problems, lb: a.lbCandidates, dbs: a.memberProblems, domain: a.cfg.DNS.Domain, turn: make(chan struct{}, 1)}
}

func (x *examiner) Examine(ctx context.Context, opts api.DoctorOptions) (api.DoctorReport, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return api.DoctorReport{}, fmt.Errorf("examine: other examinations take all the time: %w", ctx.Err())
	}
	isNode := func(name string) bool { return name == api.NodeCheck }
	own := len(opts.Only) == 0 && opts.Host == "" || slices.ContainsFunc(opts.Only, isNode)
	own = own && !slices.ContainsFunc(opts.Skip, isNode)
	only := slices.DeleteFunc(slices.Clone(opts.Only), isNode)
	skip := slices.DeleteFunc(slices.Clone(opts.Skip), isNode)

	view := x.view()
	out := api.DoctorReport{Version: view.Version().String(), Complete: true}
	if own {
		s := x.status()
		out.Node = append(s.Problems, api.Diagnose(s)...)
		if x.duties != nil {
			out.Node = append(out.Node, x.duties(ctx)...)
		}
		if x.vms != nil {
			out.Node = append(out.Node, x.vms()...)
		}
		if x.lb != nil {
			out.Node = append(out.Node, x.lb(ctx)...)
		}
		if x.dbs != nil {
			out.Node = append(out.Node, x.dbs()...)
		}
		slices.SortStableFunc(out.Node, func(a, b api.Problem) int { return rank(a) - rank(b) })
	}
	if len(opts.Only) > 0 && len(only) == 0 {
		return out, nil // of the node alone
	}
	r, err := doctor.Examine(ctx, view, doctor.Options{Only: only, Skip: skip, Host: opts.Host, Limit: opts.Limit, Domain: x.domain})
	if err != nil {
		return api.DoctorReport{}, err
	}
	if opts.Host != "" && len(r.Findings) == 0 && !view.Exists(hostdb.Hosts, opts.Host) {
		return api.DoctorReport{}, api.UnknownHost(view, opts.Host)
	}
	out.Complete = !r.Incomplete
	out.Errors, out.Warnings = r.Totals()
	docs := map[string]string{}
	for _, c := range doctor.Checks() {
		docs[c.Name] = c.Doc
	}
	for _, c := range r.Counts {
		out.Checks = append(out.Checks, api.DoctorCheck{Name: c.Check, Doc: docs[c.Check], Errors: c.Errors, Warnings: c.Warnings})
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, api.DoctorFinding{
			Check: f.Check, Severity: f.Severity.String(), ID: f.ID, Path: f.Path, Message: f.Message, Remedy: f.Remedy, Related: f.Related, More: f.More,
		})
	}
	return out, nil
}

// rank puts errors before notices.
func rank(p api.Problem) int {
	if p.Severity == api.SeverityError {
		return 0
	}
	return 1
}
